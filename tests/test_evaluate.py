"""`humansd evaluate` and `compare` from end to end, with a tiny model and a tiny judge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import humansd.evaluation.evaluate as module
from humansd.atelier.dataset import write_atelier
from humansd.cli import main
from humansd.evaluation.evaluate import EvaluationSettings, evaluate, letterboxed
from humansd.evaluation.records import read_run
from humansd.models.centrepose import CentrePose, CentrePoseConfig
from humansd.pipelines.generate import Sampling
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.picture_info import read_png_info
from tiny_pipeline import tiny_parts

COUNT = 10


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    HumanSDPipeline(**tiny_parts()).save_pretrained(folder / "model")
    torch.manual_seed(0)
    CentrePose(CentrePoseConfig(channels=(8, 16, 24, 32))).save_pretrained(folder / "judge")
    write_atelier(folder / "shards", COUNT, size=64, seed=9, workers=1, progress=False)
    return folder


def settings(place: Path, **changes) -> EvaluationSettings:
    base = {
        "model": str(place / "model"),
        "estimator": f"judge={place / 'judge'}",
        "sampling": Sampling(steps=1),
        "timing_runs": 1,
        "batch_size": 4,
        "device": "cpu",
    }
    return EvaluationSettings(**{**base, **changes})


@pytest.fixture(scope="module")
def whole(place) -> tuple[Path, dict]:
    out = place / "whole"
    return out, evaluate(settings(place), place / "shards", out, progress=False)


def test_an_evaluation_writes_numbers_tables_and_a_page(whole):
    out, results = whole
    assert json.loads((out / "results.json").read_text()) == results
    everything = results["groups"]["all"]
    assert everything["generated"]["pictures"] == COUNT
    assert everything["generated"]["clipsim"] is not None
    assert results["distances"]["pocket image tower"]["frechet"] > 0
    assert results["time"]["gflop"] > 0
    assert 0 < results["time"]["utilisation"] < 1
    assert "| AP |" in (out / "results.md").read_text()
    assert "<svg" in (out / "report.html").read_text()
    info = read_png_info(out / "pictures" / f"{read_run(out).records[3].key}.png")
    assert info["seed"] == 3


def test_a_killed_run_goes_on_and_draws_nothing_twice(place, whole, monkeypatch):
    out = place / "killed"
    draw, drawn = module.draw_batch, []

    def counted(pipeline, batch, sampling):
        if len(drawn) == 8:
            raise KeyboardInterrupt
        drawn.extend(job.seed for job in batch)
        return draw(pipeline, batch, sampling)

    monkeypatch.setattr(module, "draw_batch", counted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(settings(place), place / "shards", out, progress=False)
    monkeypatch.setattr(module, "draw_batch", lambda *args: drawn.extend(job.seed for job in args[1]) or draw(*args))
    results = evaluate(settings(place), place / "shards", out, progress=False)
    assert drawn == list(range(COUNT))
    assert {**results, "time": None} == {**whole[1], "time": None}


def test_the_batch_size_does_not_matter(place, whole):
    other = evaluate(settings(place, batch_size=3, timing_runs=0), place / "shards", place / "three", progress=False)
    assert other["groups"]["all"]["generated"]["pce"] == whole[1]["groups"]["all"]["generated"]["pce"]
    assert other["time"] is None


def test_other_settings_in_the_same_folder_are_refused(place, whole):
    with pytest.raises(ValueError, match=r"begun with sampling\.steps = 1, now 2"):
        evaluate(settings(place, sampling=Sampling(steps=2)), place / "shards", whole[0], progress=False)


def test_wrong_numbers_are_refused_by_name():
    with pytest.raises(ValueError, match="limit is -1"):
        EvaluationSettings(limit=-1)
    with pytest.raises(ValueError, match="count_threshold is 2"):
        EvaluationSettings(count_threshold=2)


def test_a_picture_of_another_shape_is_padded_as_its_people_are():
    import numpy as np

    wide = np.full((20, 40, 3), 9, np.uint8)
    fitted = letterboxed(wide, (32, 32))
    assert fitted.shape == (32, 32, 3)
    assert (fitted[:8] == 0).all()
    assert (fitted[8:24] == 9).all()


def test_the_commands_evaluate_and_compare(place, whole, capsys):
    arguments = ["evaluate", "--model", str(place / "model"), "--data", str(place / "shards"), "--steps", "1"]
    arguments += ["--estimator", f"judge={place / 'judge'}", "--timing-runs", "0", "--guidance", "2", "--device", "cpu"]
    assert main([*arguments, "--out", str(place / "guided")]) == 0
    assert "report:" in capsys.readouterr().out
    assert main(["compare", str(whole[0]), str(place / "guided"), "--out", str(place / "side")]) == 0
    assert "Against whole" in capsys.readouterr().out
    assert (place / "side" / "compare.html").exists()
    assert main(["compare", str(whole[0]), str(place / "shards")]) == 2
    assert "no settings.json" in capsys.readouterr().err
