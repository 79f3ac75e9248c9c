# Every target does its own set-up in .venv. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo-out
# The newest of these that is at least 3.11 and can make virtual environments. PYTHON=... overrules.
PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3 python; do \
    $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
TORCH := $(shell grep '^torch==' constraints.txt)
# Where pip looks for torch besides the usual index: the address of PyTorch's CPU index spares several GB.
TORCH_INDEX ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Threads per test process; the processes themselves use up the cores.
export OMP_NUM_THREADS ?= 1

.PHONY: help install dev demo pocket test test-fast lint format docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 10

install: $(VENV)/.installed ## the package alone, in .venv

dev: $(VENV)/.installed-dev ## the package and the tools of the developers

demo: export OMP_NUM_THREADS = $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)
demo: $(VENV)/.installed ## images of people in the poses of examples/poses
	@$(BIN)/humansd demo --out $(OUT)

pocket: export OMP_NUM_THREADS = $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)
pocket: $(VENV)/.installed ## all shipped weights from nothing; run it again to go on after a stop
	$(BIN)/humansd train pocket

# A file stays in one process, which makes what its tests share once; see LONGEST_FIRST in tests/conftest.py.
SPREAD := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Compiled once, not in every process, whatever the shell says.
test test-fast: export PYTHONDONTWRITEBYTECODE :=

test: lint ## lint, types, house plan and all tests
	$(BIN)/python -m pytest $(SPREAD)

FAST := pose_[a-rt-z]* field_words core* files losses* metrics* methods_shipped models models_[dgv]* pipeline pipeline_[aei]* data_[cs]* cli words project

test-fast: $(VENV)/.installed-dev ## the tests that take seconds, while you work
	$(BIN)/python -m pytest -q $(SPREAD) $(wildcard $(foreach name,$(FAST),tests/test_$(name).py tests/*/test_$(name).py))

lint: $(VENV)/.installed-dev ## ruff, mypy, import-linter
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev ## let ruff lay out the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs ## the documentation site, in site/index.html
	$(BIN)/mkdocs build --strict

clean: ## remove the environment and every cache
	rm -rf $(VENV) site .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
	    echo "humansd needs Python 3.11 or newer with its venv module; none was found on PATH." >&2; \
	    echo "Install one (Debian, Ubuntu: apt install python3 python3-venv) or name it: make PYTHON=/path/to/python3" >&2; \
	    exit 1; fi
	@echo "Making $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing $(TORCH) and the rest of the tested set (a few minutes) ..."
	@$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(TORCH)
	@$(PIP) -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	@$(PIP) -c constraints.txt -e '.[docs]'
	@touch $@
