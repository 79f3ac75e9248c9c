"""The script for a rented GPU: its settings and shares of time, and the folder that it puts together."""

import argparse
import importlib.util
from pathlib import Path

import pytest

from humansd.inference.pretrained import load_pipeline
from humansd.training.presets import POCKET, TINY
from tiny_run import make_variants

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "pocket_on_gpu.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("pocket_on_gpu", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(**changes):
    usual = {"device": "cpu", "batch": 0, "steps": 0, "minutes": 10.0, "rate": 2800.0, "skip": []}
    return argparse.Namespace(**{**usual, **changes})


def test_estimators_go_on_from_those_that_ship_and_a_cpu_compiles_nothing(script):
    recipe = script._recipe(options())
    for name in ("higherhrnet", "centernet"):
        assert (Path(getattr(recipe, name).init) / "model.safetensors").is_file()
    stages = ("vae", "base", "humansd", "one_branch", "four_steps", "tiny_decoder")
    assert {getattr(recipe, name).compile for name in stages} == {"no"}
    assert script._recipe(options(device="cuda")).four_steps.compile == "auto"
    assert recipe.humansd.learning_rate == POCKET.humansd.learning_rate


def test_a_trial_is_as_short_as_it_is_asked_to_be(script):
    asked = options(batch=2, steps=1)
    recipe = script._recipe(asked)
    for name in script.SHARES:
        settings = script._timed(asked, name, getattr(recipe, name))
        assert (settings.batch_size, settings.steps, settings.cooldown_steps) == (2, 1, 0)
        assert 0 < settings.max_minutes <= 10


def test_the_steps_of_a_stage_fit_into_its_share(script, monkeypatch):
    monkeypatch.setattr(script, "_left", lambda given: 600.0)
    recipe = script._recipe(options(device="cuda"))
    one, four = (script._timed(options(), name, getattr(recipe, name)) for name in ("one_branch", "four_steps"))
    for name, settings in (("one_branch", one), ("four_steps", four)):
        seconds = script.SHARES[name] * 600
        assert settings.max_minutes == pytest.approx(seconds / 60)
        took = script.COMPILE_SECONDS + settings.steps * settings.batch_size * script.COSTS[name] / 2800
        assert took == pytest.approx(seconds, rel=0.02)
        assert settings.cooldown_steps == settings.steps // 4


def test_every_stage_has_a_share_and_humansd_the_largest_part_of_the_time(script):
    parts, left = {}, 1.0
    for name, share in script.SHARES.items():
        assert 0 < share < 1
        parts[name], left = share * left, left * (1 - share)
    assert max(parts, key=parts.get) == "humansd"
    assert min(parts.values()) > 0.02  # a stage that is there learns something


def test_the_folder_that_is_brought_out_is_a_model_with_its_variants(script, tiny_run, tmp_path):
    for name in ("humansd", "parts"):
        (tmp_path / name).symlink_to(tiny_run / name)
    make_variants(tiny_run, tmp_path)
    folder = script._assembled(tmp_path, TINY)
    assert folder == tmp_path / "pocket"
    assert load_pipeline(str(folder), "cpu").variant == "one-branch"
    few = load_pipeline(str(folder), "cpu", variant="four-steps")
    assert few.tiny_decoder is not None
    assert (folder / "clip").is_dir()
    assert (folder / "words.json").is_file()
