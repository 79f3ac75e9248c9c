"""Tables 3 and 4, figure 7, the conflict of two branches and robots by command, with tiny real models."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from humansd.cli import main
from humansd.data.shards import read_shards
from humansd.evaluation.compare import seed_differences
from humansd.models.centernet_pose import CenterNetPose, CenterNetPoseConfig
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.reproduce.beyond_people import KINDS, beyond_people
from humansd.reproduce.charts import line_chart, ticks
from humansd.reproduce.conflict import MEASURES, recorded
from humansd.reproduce.rows import curve_table, equal_flops_table
from humansd.reproduce.table1 import curve_flops, samples_a_step
from humansd.reproduce.table3 import PHOTO_SCENES, Table3Settings, _generate
from humansd.reproduce.table4 import Table4Settings, lengths
from humansd.synthetic.dataset import write_atelier
from humansd.training.presets import PRESETS
from tiny_pipeline import FACTOR, tiny_components

SIDE = 64
COUNT = 14


@pytest.fixture(scope="module")
def place(tmp_path_factory, few_draws) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    parts = tiny_components(widened=False)
    parts["unet"].register_to_config(sample_size=SIDE // FACTOR)
    extras = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    StableDiffusionPipeline(**parts, **extras).save_pretrained(folder / "base")
    torch.manual_seed(0)
    CenterNetPose(CenterNetPoseConfig(channels=(8, 16, 24, 32))).save_pretrained(folder / "centernet")
    write_atelier(folder / "shards", COUNT, size=SIDE, seed=9, workers=1, progress=False)
    return folder


def command(place: Path, table: str, out: Path, *more: str) -> list[str]:
    given = ["reproduce", table, "--base-model", str(place / "base"), "--data", str(place / "shards")]
    given += ["--test", str(place / "shards"), "--out", str(out), "--poses", "4", "--sampling-steps", "2"]
    given += ["--held-out", f"centernet={place / 'centernet'}"]
    for one in ("batch_size=2", "log_images_minutes=0", "mixed_precision=no", "compile=no"):
        given += ["--set", one]
    return [*given, *more]


def untouched(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*.safetensors")}


def test_table_4_measures_one_run_at_three_lengths(place, tmp_path, capsys):
    """The middle model is the short one trained on, and its export is kept when the run has gone further."""
    given = command(place, "table4", tmp_path, "--steps", "6")
    assert main(given) == 0, capsys.readouterr().err
    table = capsys.readouterr().out
    results = json.loads((tmp_path / "table4.json").read_text())
    assert results["samples"] == {"short": 4, "middle": 8, "long": 12}
    steps = [
        json.loads((tmp_path / "models" / f"{row}-2" / "progress.json").read_text())["step"]
        for row in ("short", "middle", "long")
    ]
    assert steps == [2, 4, 6]
    weights = {
        next((tmp_path / "models" / f"{row}-2" / "unet").glob("*.safetensors")).read_bytes() for row in lengths(6)
    }
    assert len(weights) == 3
    assert set(results["differences"]) == {"short", "long"}
    assert "Preliminary: a claim needs 3" in table
    assert re.search(r"\| short \| -?[\d.]+ \(", table)
    assert "| long (150K) | 32.17 | 1.55 | 32.51 |" in table
    runs = [tmp_path / "evaluate" / f"{row}-2" for row in ("short", "middle")]
    paired = seed_differences(runs[:1], runs[1:], ["pce"])["pce"]
    assert results["differences"]["short"]["pce"] == paired
    before = untouched(tmp_path)
    assert main(given) == 0
    assert untouched(tmp_path) == before
    assert main([*given, "--loss", "skeleton-mask"]) == 2
    assert "loss was 'ldm'" in capsys.readouterr().err


def test_table_3_trains_on_what_was_drawn_on_photos_and_on_all(place, tmp_path, capsys):
    write_atelier(tmp_path / "drawn", 3, size=SIDE, seed=77, workers=1, progress=False)
    given = command(place, "table3", tmp_path / "out", "--steps", "1", "--generated-data", str(tmp_path / "drawn"))
    assert main(given) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "table3.json").read_text())
    photos = [one.key for one in read_shards(place / "shards") if one.scene in PHOTO_SCENES]
    assert results["images"] == {"generated": 3, "photos": len(photos), "all": COUNT + 3}
    assert {one.scene for one in read_shards(tmp_path / "out" / "sets" / "photos")} <= set(PHOTO_SCENES)
    assert set(results["differences"]) == {"generated", "photos"}
    data = {
        json.loads((tmp_path / "out" / "train" / f"{row}-2" / "config.json").read_text())["data_digest"]
        for row in ("generated", "photos", "all")
    }
    assert len(data) == 3
    assert "| generated (GHI) | 23.66 | 1.5 | 33.61 |" in said
    assert "`generated` was drawn before" in said


def test_table_3_has_its_own_images_drawn_by_the_base(monkeypatch, tmp_path):
    """What `humansd data build ghi` is asked for; that it builds is its own tests' business."""
    asked = []
    monkeypatch.setattr("humansd.reproduce.table3.build_ghi", lambda *given: asked.append(given))
    settings = Table3Settings(
        base_model="BASE", generated=5, annotator="higherhrnet=FOLDER", share=0.5, generating_steps=7
    )
    _generate(settings, str(tmp_path / "generated"))
    ((count, out, options),) = asked
    assert (count, out) == (5, str(tmp_path / "generated"))
    assert (options.model, options.estimator, options.weights) == ("BASE", "higherhrnet", "FOLDER")
    assert (options.steps, options.share, options.guidance) == (7, 0.5, 4.0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Table3Settings(annotator="centernet"), "is who measures"),
        (lambda: Table3Settings(generated=0), "generated is 0"),
        (lambda: Table3Settings(loss="latent-heatmap"), "not known here"),
        (lambda: Table4Settings(steps=1), "too few for three lengths"),
        (lambda: Table4Settings(seeds=(2, 2)), "name each once"),
    ],
)
def test_settings_that_make_no_table_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_the_lengths_are_the_papers_shares():
    assert lengths(150_000) == {"short": 50_000, "middle": 95_000, "long": 150_000}


CURVES = {"dear-2": [[100, 0.1], [200, 0.3]], "cheap-2": [[100, 0.2], [200, 0.2]]}


def test_equal_flops_are_read_from_the_curves():
    """dear costs 4 a sample, cheap 2: at 400 the first has seen 100 samples, the second 200."""
    flops = {"dear-2": 4.0, "cheap-2": 2.0}
    lines = [line.strip("| ").split(" | ") for line in equal_flops_table(CURVES, flops).splitlines()]
    assert lines[0][1:] == ["100", "200", "300", "400"]
    assert lines[2] == ["dear-2", "-", "-", "-", "10.0"]
    assert lines[3] == ["cheap-2", "-", "20.0", "20.0", "20.0"]
    assert "| dear-2 | 4.00 | 10.0 | 30.0 |" in curve_table(CURVES, flops)
    assert equal_flops_table({"dear-2": []}, flops) == ""
    alone = equal_flops_table(CURVES, {"cheap-2": 2.0})  # of the other it is not known
    assert "dear-2" not in alone
    assert "| dear-2 | - | 10.0 | 30.0 |" in curve_table(CURVES, {"cheap-2": 2.0})


def test_what_a_loss_asks_an_estimator_is_not_counted_so_such_rows_have_no_flops():
    results = {
        "curves": {"humansd-2": [[1, 0.1]], "humansd-heatmap-2": [[1, 0.1]], "controlnet-3": [[1, 0.1]]},
        "costs": {"humansd": {"training": 3.0}, "controlnet": {"training": 2.0}},
    }
    assert curve_flops(results) == {"humansd-2": 3.0, "controlnet-3": 2.0}


def test_all_rows_see_as_many_samples_whatever_their_presets_say():
    """At Stable Diffusion's size those of the rivals have batches of their own."""
    assert PRESETS["t2i-adapter-sd15"].batch_size != PRESETS["humansd-sd15"].batch_size
    assert samples_a_step("sd15", ()) == PRESETS["humansd-sd15"].batch_size
    assert samples_a_step("sd15", (("batch_size", "12"),)) == 12
    assert samples_a_step("pocket", ()) == 32


def test_figure_7_draws_what_the_table_holds(tmp_path, capsys):
    def score(ap: float) -> dict:
        return {"groups": {name: {"generated": {"ap": ap}} for name in ("1 person", "3 people")}}

    table = {
        "settings": {"rows": ["sd", "humansd"], "seeds": [2, 3], "test": "val", "held_out": "centernet"},
        "scores": {"sd": score(0.0), "humansd-2": score(0.5), "humansd-3": score(0.7)},
        "curves": {"humansd-2": [[100, 0.25], [200, 0.5]]},
        "costs": {"humansd": {"training": 3.0}},
    }
    (tmp_path / "table1.json").write_text(json.dumps(table))
    assert main(["reproduce", "figure7", str(tmp_path), "--out", str(tmp_path / "figure")]) == 0
    values = json.loads((tmp_path / "figure" / "figure7.json").read_text())
    assert values["samples"] == {"humansd-2": [[100, 25.0], [200, 50.0]]}
    assert values["flops"] == {"humansd-2": [[300.0, 25.0], [600.0, 50.0]]}
    assert values["people"] == {"sd": [[0, 0.0], [2, 0.0]], "humansd": [[0, 60.0], [2, 60.0]]}
    page = (tmp_path / "figure" / "figure7.html").read_text()
    assert page.count("<svg") == 3
    assert "4 to 8 people" in page
    (tmp_path / "table1.json").write_text('{"settings": 3}')
    assert main(["reproduce", "figure7", str(tmp_path), "--out", str(tmp_path / "figure")]) == 2
    assert "damaged" in capsys.readouterr().err
    assert main(["reproduce", "figure7", str(tmp_path / "none"), "--out", str(tmp_path / "figure")]) == 2
    assert "reproduce table1 --curve-steps" in capsys.readouterr().err


def test_a_chart_places_points_where_their_values_are():
    assert ticks(0.0, 47.0) == [0, 10, 20, 30, 40, 50]
    assert ticks(3.0, 3.0)[0] <= 2.5
    svg = line_chart("t", "x", {"a": [(0, 0.0), (10, 50.0)], "b": []})
    (path,) = re.findall(r'points="([^"]+)"', svg)
    (x0, y0), (x1, y1) = [tuple(map(float, one.split(","))) for one in path.split()]
    assert x1 > x0
    assert y1 < y0  # upwards
    assert ">a</text>" in svg
    assert ">b</text>" not in svg
    assert "no values" in line_chart("t", "x", {"b": []})


@pytest.fixture(scope="module")
def pair(place) -> dict[str, HumanSDPipeline]:
    return {name: HumanSDPipeline.from_base(place / "base", method=name) for name in ("humansd", "controlnet")}


def conflict(place: Path, out: Path, native: str, dual: str, *more: str) -> int:
    given = ["--native", str(place / native), "--dual", str(place / dual), "--data", str(place / "shards")]
    return main(["reproduce", "conflict", *given, "--out", str(out), "--samples", "6", "--steps", "2", *more])


def test_untrained_branches_have_no_conflict(place, pair, tmp_path, capsys):
    """At step 0 HumanSD is its base and a ControlNet adds nothing: the frozen features are the native ones."""
    for name, pipe in pair.items():
        pipe.save_pretrained(place / f"{name}-0")
    assert conflict(place, tmp_path, "humansd-0", "controlnet-0") == 0, capsys.readouterr().err
    results = json.loads((tmp_path / "conflict.json").read_text())
    for kind in ("fits", "contradicts"):
        found = {name: np.array(values) for name, values in results["captions"][kind].items()}
        for name in ("cosine of frozen and native", "cosine of sum and native", "frozen / native", "sum / native"):
            assert found[name] == pytest.approx(1, abs=1e-4), name
        assert not found["control / native"].any()
        assert len(results["timesteps"]) == len(found["sum / native"]) == 2
    assert results["differences"]["sum / native"]["difference"] == pytest.approx(0, abs=1e-4)
    assert (tmp_path / "conflict.html").read_text().count("<svg") == 4


def test_branches_that_answer_are_measured_against_the_native_model(place, pair, tmp_path):
    torch.manual_seed(1)
    for parameter in pair["controlnet"].pose_network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.normal_(pair["humansd"].unet.conv_in.weight[:, 3:].data, std=0.5)
    for name, pipe in pair.items():
        pipe.save_pretrained(place / f"{name}-1")
    assert conflict(place, tmp_path, "humansd-1", "controlnet-1") == 0
    results = json.loads((tmp_path / "conflict.json").read_text())
    fits = {name: np.array(values) for name, values in results["captions"]["fits"].items()}
    assert (fits["control / native"] > 0.01).all()
    assert (fits["cosine of frozen and native"] < 0.999).all()
    # The triangle: no sum is longer than its parts, at any place.
    places = {name: np.array(values) for name, values in results["places"]["fits"].items()}
    assert (places["sum / native"] <= places["frozen / native"] + places["control / native"] + 1e-9).all()
    assert set(fits) == set(MEASURES)
    assert fits["frozen / native"] != pytest.approx(
        np.array(results["captions"]["contradicts"]["frozen / native"]), abs=1e-9
    )


def test_what_is_recorded_is_where_a_controlnet_adds_its_answers(pair):
    pipe, dual = pair["humansd"], pair["controlnet"]
    noisy, text = torch.randn(1, 6, 32, 32), torch.randn(1, 12, 16)
    with torch.no_grad(), recorded(pipe.unet) as features:
        pipe.unet(noisy, 500, text)
        first = pipe.unet.conv_in(noisy)
    assert torch.equal(features[0], first)
    with torch.no_grad():
        pose = dual.encode_poses([None], (SIDE, SIDE))
        given = dual.method.unet_inputs(dual.networks, noisy[:, :3], torch.tensor(500), text, pose)
    added = [*given["down_block_additional_residuals"], given["mid_block_additional_residual"]]
    assert [one.shape for one in features[: len(added)]] == [one.shape for one in added]


def test_pairs_that_cannot_be_compared_are_refused(place, pair, tmp_path, capsys):
    assert conflict(place, tmp_path, "controlnet-0", "humansd-0") == 2
    assert "--native: is of the method 'controlnet'" in capsys.readouterr().err
    parts = tiny_components()
    parts["vae"].encoder.conv_in.weight.data *= 2
    HumanSDPipeline(**parts).save_pretrained(place / "other")
    assert conflict(place, tmp_path, "other", "controlnet-0") == 2
    assert "do not come from one base" in capsys.readouterr().err


def test_robots_statues_and_animals_are_there_and_are_drawn(place, tmp_path, capsys):
    entries = beyond_people()
    assert len(entries) == len({pose.name for pose, _ in entries}) == 12
    for pose, prompt in entries:
        assert pose.pose.canvas == (512, 512)
        assert pose.pose.labelled.all()
        assert (pose.pose.xy >= 16).all()
        assert (pose.pose.xy <= 496).all()
        kind = pose.name.partition("-")[0]
        assert kind in KINDS
        assert kind == "animal" or kind in prompt or "sculpture" in prompt
    given = ["reproduce", "beyond-people", "--model", str(place / "base"), "--method", "sd", "--out", str(tmp_path)]
    assert main([*given, "--kind", "robot", "--steps", "1", "--device", "cpu"]) == 0
    assert "4 images" in capsys.readouterr().out
    assert len(list(tmp_path.glob("robot-*.png"))) == 4
    assert main([*given, "--kind", "plant"]) == 2
    assert "choose of robot, statue, animal" in capsys.readouterr().err
