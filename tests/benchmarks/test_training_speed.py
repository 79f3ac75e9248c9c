"""The benchmarks of training, in miniature."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from humansd.benchmarks import kills
from humansd.benchmarks.overhead import benchmark_overhead
from humansd.benchmarks.training_speed import benchmark_training, training_memory
from humansd.synthetic.dataset import write_atelier
from tiny_ldm import TINY1

SCRIPT = str(Path(__file__).parents[1] / "quick_run.py")


def test_a_step_is_timed_with_and_without_caches_against_the_example():
    table = benchmark_training(layout=TINY1, side_px=64, steps=1).splitlines()
    rows = {cells[1].strip(): float(cells[4]) for line in table[4:] if len(cells := line.split("|")) > 5}
    assert list(rows) == ["diffusers' example", "ours, nothing cached", "ours, latents and captions cached"]
    assert rows["diffusers' example"] == 1
    assert all(ratio > 0 for ratio in rows.values())
    with pytest.raises(ValueError, match="steps is 0"):
        benchmark_training(layout=TINY1, steps=0)


def test_memory_of_the_published_size_is_that_of_its_parameters():
    text = training_memory()
    assert text.startswith("860 M parameters: weights 3.4, gradients 3.4, AdamW 6.9, averages 3.4, together 17.2 GB")
    assert "activations of 1 at 512 px" in text
    assert "averages" not in training_memory(ema=False)


def test_the_benchmark_of_kills_compares_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(
        kills, "_command", lambda preset, settings, run: [sys.executable, SCRIPT, str(run), "60", "0.02"]
    )
    assert "bit for bit" in kills.benchmark_kills("line", [], tmp_path, kills=1)
    monkeypatch.setattr(
        kills,
        "_command",
        lambda preset, settings, run: [sys.executable, SCRIPT, str(run), "60" if run.name == "whole" else "59", "0"],
    )
    with pytest.raises(ValueError, match="differ from the unbroken run: checkpoints/step-00000060 against"):
        kills.benchmark_kills("line", [], tmp_path, kills=1)


def test_the_overhead_of_the_loop_is_shown_beside_its_parts(tmp_path):
    write_atelier(tmp_path / "shards", 4, size=128, seed=9, workers=1, progress=False)
    given = {"data": str(tmp_path / "shards"), "batch_size": "1", "mixed_precision": "no"}
    table = benchmark_overhead("pocket-centernet", given, tmp_path / "run", steps=10)
    assert all(f"| {part} |" in table for part in ("forward", "backward", "clipping", "bare step"))
    assert "Overhead: " in table
    with pytest.raises(ValueError, match="10 or more"):
        benchmark_overhead("pocket-centernet", given, tmp_path / "run", steps=2)
    with pytest.raises(ValueError, match="several stages"):
        benchmark_overhead("pocket", {}, tmp_path / "run")
