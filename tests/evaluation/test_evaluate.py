"""`humansd evaluate` and `compare` from end to end, with a tiny model and a tiny estimator."""

from __future__ import annotations

import json
import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import humansd.evaluation.drawing as module
from humansd.cli import main
from humansd.data.sample import Sample
from humansd.data.shards import read_shards, write_shards
from humansd.evaluation.drawing import read_image
from humansd.evaluation.evaluate import EvaluationSettings, _chunks, evaluate
from humansd.evaluation.records import read_run
from humansd.evaluation.sources import Shards
from humansd.inference.generate import SamplingConfig
from humansd.inference.image_info import read_png_info
from humansd.models.centernet_pose import CenterNetPose, CenterNetPoseConfig
from humansd.models.clip_similarity import ClipScorer
from humansd.models.digests import networks_digest
from humansd.models.features import load_extractor
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.people import People
from humansd.synthetic.dataset import write_atelier
from tiny_pipeline import tiny_components

COUNT = 10


@pytest.fixture(scope="module")
def place(tmp_path_factory, few_draws) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    HumanSDPipeline(**tiny_components()).save_pretrained(folder / "model")
    torch.manual_seed(0)
    CenterNetPose(CenterNetPoseConfig(channels=(8, 16, 24, 32))).save_pretrained(folder / "centernet")
    write_atelier(folder / "shards", COUNT, size=64, seed=9, workers=1, progress=False)
    return folder


def settings(place: Path, **changes) -> EvaluationSettings:
    base = {
        "model": str(place / "model"),
        "estimator": f"centernet={place / 'centernet'}",
        "sampling": SamplingConfig(num_inference_steps=1),
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
    assert everything["generated"]["images"] == COUNT
    assert everything["generated"]["clipsim"] is not None
    assert results["distances"]["pocket image tower"]["frechet"] > 0
    assert results["time"]["gflop"] > 0
    assert 0 < results["time"]["utilisation"] < 1
    assert "| AP |" in (out / "results.md").read_text()
    assert "<svg" in (out / "report.html").read_text()
    info = read_png_info(out / "images" / f"{read_run(out).records[3].key}.png")
    assert info["seed"] == 3


def test_a_killed_run_goes_on_and_draws_nothing_twice(place, whole, monkeypatch):
    out = place / "killed"
    draw, drawn = module.draw_batch, []

    def counted(pipeline, batch, sampling):
        if len(drawn) == 8:
            raise KeyboardInterrupt
        drawn.extend(job.seed for job in batch)
        return draw(pipeline, batch, sampling)

    how = settings(place, timing_runs=0)
    monkeypatch.setattr(module, "draw_batch", counted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(how, place / "shards", out, progress=False)
    monkeypatch.setattr(module, "draw_batch", lambda *args: drawn.extend(job.seed for job in args[1]) or draw(*args))
    results = evaluate(how, place / "shards", out, progress=False)
    assert drawn == list(range(COUNT))
    assert {**results, "time": None} == {**whole[1], "time": None}


def test_a_run_killed_inside_a_batch_draws_that_batch_whole_again(place, whole, tmp_path, monkeypatch):
    """In a batch of what is missing sums are rounded in another order, and the numbers are not the same."""
    draw, write, drawn, written = module.draw_batch, module.write_png, [], []

    def killed(file, image, info):
        if len(written) == 6:
            raise KeyboardInterrupt
        written.append(write(file, image, info))

    how = settings(place, timing_runs=0)
    monkeypatch.setattr(module, "write_png", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(how, place / "shards", tmp_path, progress=False)
    monkeypatch.undo()
    kept = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "images").iterdir()}
    assert len(kept) == 6
    monkeypatch.setattr(module, "draw_batch", lambda *a: drawn.append([job.seed for job in a[1]]) or draw(*a))
    results = evaluate(how, place / "shards", tmp_path, progress=False)
    assert drawn == [[4, 5, 6, 7], [8, 9]]
    assert {**results, "time": None} == {**whole[1], "time": None}
    now = {file.name: file for file in (tmp_path / "images").iterdir()}
    assert {name: now[name].stat().st_mtime_ns for name in kept} == kept
    assert all(file.read_bytes() == (whole[0] / "images" / name).read_bytes() for name, file in now.items())


@pytest.mark.parametrize("canvas", [(300, 200), (16, 300)])
def test_large_images_are_cut_one_by_one(place, monkeypatch, canvas):
    """However large they are, a chunk holds as many px as the model draws, and one sample at a time."""
    alive, most = weakref.WeakSet(), []
    small = next(read_shards(place / "shards"))

    def large(data, skip):
        for _ in range(5):
            image = np.zeros((canvas[1], canvas[0], 3), np.uint8)
            alive.add(sample := replace(small, image=image, people=People.empty(canvas), extras={}))
            most.append(len(alive))
            yield sample

    monkeypatch.setattr("humansd.evaluation.sources.read_shards", large)
    (chunk,) = _chunks(Shards(place / "shards", 5), (16, 16))
    assert max(most) <= 2
    for cut in chunk:
        assert cut.image.shape == (16, 16, 3)
        assert cut.image.base is None or memoryview(cut.image.base).nbytes == 16 * 16 * 3


def test_the_batch_size_does_not_matter(place, whole):
    other = evaluate(settings(place, batch_size=3, timing_runs=0), place / "shards", place / "three", progress=False)
    assert other["groups"]["all"]["generated"]["pce"] == whole[1]["groups"]["all"]["generated"]["pce"]
    assert other["time"] is None


def test_other_settings_in_the_same_folder_are_refused(place, whole):
    with pytest.raises(ValueError, match=r"begun with sampling\.num_inference_steps = 1, now 2"):
        evaluate(
            settings(place, sampling=SamplingConfig(num_inference_steps=2)), place / "shards", whole[0], progress=False
        )


QUICK = {"limit": 4, "features": (), "clip": "none", "timing_runs": 0}


def refused(place, out, match: str, data: str = "shards", **changes) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        evaluate(settings(place, **{**QUICK, **changes}), place / data, out, progress=False)
    assert "\n" not in str(caught.value)


def goes_on(place, out, monkeypatch, data: str = "shards", **changes) -> None:
    monkeypatch.setattr(module, "draw_batch", lambda *_: pytest.fail("an image was drawn twice"))
    evaluate(settings(place, **{**QUICK, **changes}), place / data, out, progress=False)
    monkeypatch.undo()


@pytest.fixture(scope="module")
def quick(place) -> Path:
    evaluate(settings(place, **QUICK), place / "shards", place / "quick", progress=False)
    return place / "quick"


@pytest.fixture
def finished(quick, tmp_path) -> Path:
    """A finished run to go on with."""
    return shutil.copytree(quick, tmp_path / "run")


def test_data_are_known_by_content_and_not_by_name(place, finished, monkeypatch):
    shutil.copytree(place / "shards", place / "elsewhere", dirs_exist_ok=True)
    goes_on(place, finished, monkeypatch, "elsewhere")
    samples = list(read_shards(place / "shards"))
    told = [replace(sample, caption=sample.caption[::-1]) for sample in samples]
    write_shards(told.__getitem__, COUNT, place / "reversed" / "shards", workers=1, progress=False)
    sizes = [next((place / name).glob("*.tar")).stat().st_size for name in ("shards", "reversed/shards")]
    assert sizes[0] == sizes[1]
    refused(place, finished, r"begun with data\.digest = '\w{16}', now '\w{16}'", "reversed/shards")


def test_networks_are_known_by_their_weights_and_not_by_name(place, finished, monkeypatch):
    for name in ("model", "centernet"):
        shutil.copytree(place / name, place / "moved" / name, dirs_exist_ok=True)
    moved = {"model": str(place / "moved" / "model"), "estimator": f"centernet={place / 'moved' / 'centernet'}"}
    goes_on(place, finished, monkeypatch, **moved)
    torch.manual_seed(1)
    CenterNetPose(CenterNetPoseConfig(channels=(8, 16, 24, 32))).save_pretrained(place / "other" / "centernet")
    refused(place, finished, r"begun with estimator\.weights =", estimator=f"centernet={place / 'other' / 'centernet'}")
    shutil.copytree(place / "model", place / "other" / "model", dirs_exist_ok=True)
    (place / "other" / "model" / "digests.json").unlink()
    file = place / "other" / "model" / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "beta_end": 0.5}))
    refused(place, finished, r"begun with model\.config =", model=str(place / "other" / "model"))


def test_what_ships_is_recorded_by_its_weights_too(whole):
    settings = read_run(whole[0]).settings
    clip, (extractor,) = ClipScorer.from_pretrained(), (load_extractor("pocket"),)
    assert settings["clip"] == {"name": "pocket", "weights": networks_digest(clip.networks)}
    assert settings["features"] == {"pocket image tower": networks_digest(extractor.networks)}
    assert len({*settings["features"].values(), settings["clip"]["weights"], settings["model"]["weights"]}) == 3


def test_another_version_that_measures_alike_goes_on_and_one_that_does_not_is_refused(place, finished, monkeypatch):
    file = finished / "settings.json"
    known = json.loads(file.read_text())
    file.write_text(json.dumps({**known, "humansd": "0.0.9"}))
    goes_on(place, finished, monkeypatch)
    file.write_text(json.dumps({key: value for key, value in known.items() if key != "protocol"}))
    refused(place, finished, r"run: was made by an older version \(.*\), which measured otherwise; evaluate anew into")


def test_the_precision_of_the_model_is_recorded(place, whole, tmp_path):
    assert read_run(whole[0]).settings["model"]["dtype"] == "float32"
    half = settings(place, **{**QUICK, "dtype": "bf16"})
    evaluate(half, place / "shards", tmp_path, progress=False)
    assert read_run(tmp_path).settings["model"]["dtype"] == "bfloat16"
    refused(place, tmp_path, r"begun with model\.\w+ = '\w+', now")
    with pytest.raises(ValueError, match="dtype is 'fp8'; choose one of auto, fp32"):
        evaluate(settings(place, dtype="fp8"), place / "shards", tmp_path, progress=False)


def widened(sample: Sample) -> Sample:
    """The same with mirrored scenery at its sides: 4:3."""
    side = sample.people.canvas[0]
    beside = round(side / 6)
    image = np.pad(sample.image, ((0, 0), (beside, beside), (0, 0)), mode="reflect")
    known = {name: value for name, value in sample.extras.items() if name != "mask"}
    return replace(sample, image=image, people=sample.people.pad(beside, 0, beside, 0), extras=known)


def test_scenery_at_the_sides_changes_no_number(place, whole, tmp_path):
    samples = [widened(sample) for sample in read_shards(place / "shards")]
    write_shards(samples.__getitem__, COUNT, tmp_path / "wide", workers=1, progress=False)
    results = evaluate(settings(place, timing_runs=0), tmp_path / "wide", tmp_path / "run", progress=False)
    assert results["cuts"] == {"whole": 0, "window": COUNT, "centre": 0}
    assert "10 real images have another shape" in (tmp_path / "run" / "results.md").read_text()
    same = ("groups", "distances", "paper", "chance", "intervals")
    assert {name: results[name] for name in same} == {name: whole[1][name] for name in same}


def test_a_model_is_evaluated_at_a_shape_of_its_own(place, tmp_path):
    own = settings(place, sampling=SamplingConfig(num_inference_steps=1, size=(24, 16)), features=())
    results = evaluate(own, place / "shards", tmp_path, progress=False)
    run = read_run(tmp_path)
    assert {record.wanted.canvas for record in run.records} == {(24, 16)}
    assert read_image(run.image(run.records[0].key)).shape == (16, 24, 3)
    assert results["cuts"]["window"] + results["cuts"]["centre"] == COUNT
    assert results["time"]["size"] == [24, 16]
    assert "24 x 16 px, 1 steps" in (tmp_path / "results.md").read_text()
    for record, sample in zip(run.records, read_shards(place / "shards"), strict=True):
        lost = int(sample.people.labelled.sum() - record.wanted.labelled.sum())
        assert (lost > 0) == (record.cut == "centre")


def test_a_shape_that_the_model_cannot_draw_is_refused_before_the_folder_is_taken(place, tmp_path):
    refused(
        place,
        tmp_path,
        r"height is 15 px; it must be a multiple of 2",
        sampling=SamplingConfig(num_inference_steps=1, size=(24, 15)),
    )
    assert not (tmp_path / "settings.json").exists()


def test_wrong_numbers_are_refused_by_name():
    with pytest.raises(ValueError, match="limit is -1"):
        EvaluationSettings(limit=-1)
    with pytest.raises(ValueError, match="count_threshold is 2"):
        EvaluationSettings(count_threshold=2)


def test_the_commands_evaluate_and_compare(place, whole, capsys):
    arguments = ["evaluate", "--model", str(place / "model"), "--data", str(place / "shards"), "--steps", "1"]
    arguments += [
        "--estimator",
        f"centernet={place / 'centernet'}",
        "--timing-runs",
        "0",
        "--guidance",
        "2",
        "--device",
        "cpu",
    ]
    assert main([*arguments, "--out", str(place / "finetune")]) == 0
    assert "report:" in capsys.readouterr().out
    assert main(["compare", str(whole[0]), str(place / "finetune"), "--out", str(place / "side")]) == 0
    assert "Against whole" in capsys.readouterr().out
    assert (place / "side" / "compare.html").exists()
    both = ["compare", str(whole[0]), str(place / "finetune"), "--out", str(place / "strict"), "--count-threshold"]
    assert main([*both, "1"]) == 0
    strict = json.loads((place / "strict" / "compare.json").read_text())
    assert strict["count_threshold"] == 1.0
    wanted = strict["runs"]["whole"]["groups"]["all"]["generated"]  # nobody is as certain, so all people are missed
    assert wanted["pce"] == pytest.approx(wanted["people"] / wanted["images"])
    capsys.readouterr()
    assert main([*both, "50"]) == 2
    assert "count_threshold is 50" in capsys.readouterr().err
    assert main(["compare", str(whole[0]), str(place / "shards")]) == 2
    assert "no settings.json" in capsys.readouterr().err
