"""The paper's table 2 and figure 4 by command, from end to end with tiny real models; the speed of the losses."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

import fewer_draws
import forked
from humansd.benchmarks.loss_speed import benchmark_losses
from humansd.cli import main
from humansd.evaluation.evaluate import EvaluationSettings, evaluate
from humansd.inference.generate import SamplingConfig
from humansd.models.centernet_pose import CenterNetPose, CenterNetPoseConfig
from humansd.models.higherhrnet import CONFIGS, HigherHRNet
from humansd.models.pocket import pocket_scheduler
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.reproduce.table1 import ROWS
from humansd.reproduce.table2 import LOSSES, Table2Settings
from humansd.synthetic.dataset import write_atelier
from humansd.training.costs import method_costs
from humansd.training.tasks.diffusion_networks import load_scheduler
from long_tests import LONG, long_test
from tiny_pipeline import FACTOR, tiny_components

SIDE = 64  # px of all images
SOME = ("ldm", "reference", "latent-heatmap")
COMPILE = "auto" if LONG else "no"  # by PyTorch's inductor: 20 s of a CPU for each network


@pytest.fixture(scope="module")
def place(tmp_path_factory, few_draws) -> Path:
    folder = tmp_path_factory.mktemp("reproduce")
    extras = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    plain, posed = tiny_components(widened=False), tiny_components()
    for parts in (plain, posed):
        parts["unet"].register_to_config(sample_size=SIDE // FACTOR)
    StableDiffusionPipeline(**plain, **extras).save_pretrained(folder / "base")
    HumanSDPipeline(**posed).save_pretrained(folder / "humansd")
    torch.manual_seed(0)
    CenterNetPose(CenterNetPoseConfig(channels=(8, 16, 24, 32))).save_pretrained(folder / "centernet")
    HigherHRNet(replace(CONFIGS["pocket"], input_px=SIDE)).save_pretrained(folder / "hrnet")
    write_atelier(folder / "shards", 10, size=SIDE, seed=9, workers=1, progress=False)
    return folder


def table2(place: Path, out: Path, losses: tuple[str, ...]) -> list[str]:
    command = ["reproduce", "table2", "--base-model", str(place / "base"), "--data", str(place / "shards")]
    command += ["--test", str(place / "shards"), "--out", str(out), "--steps", "2", "--head-steps", "2"]
    command += ["--poses", "4", "--estimator", str(place / "hrnet"), "--held-out", f"centernet={place / 'centernet'}"]
    command += ["--sampling-steps", "3"]
    command += [word for loss in losses for word in ("--loss", loss)]
    command += ["--set", "batch_size=2", "--set", "log_images_minutes=0", "--set", "mixed_precision=no"]
    return [*command, "--set", f"compile={COMPILE}"]


@pytest.fixture(scope="module")
def some_losses(place) -> Path:
    """A table of `SOME`, one model after the other."""
    assert main(table2(place, place / "table2", SOME)) == 0
    return place / "table2"


def test_table_2_trains_every_loss_from_one_start_and_measures_it(place, some_losses, capsys):
    out = some_losses
    table = (out / "table2.md").read_text()
    assert [f"| {loss} |" in table for loss in LOSSES] == [loss in SOME for loss in LOSSES]
    assert "Preliminary" in table
    results = json.loads((out / "table2.json").read_text())
    assert set(results["differences"]) == set(SOME[1:])
    assert set(results["text_only"]) == {"base", *(f"{loss}-2" for loss in SOME)}
    starts = [json.loads((out / "train" / f"{loss}-2" / "config.json").read_text()) for loss in SOME]
    assert len({start["base_model_weights"] for start in starts}) == 1
    # Every loss went its own way, but for a head of two steps, which sees nobody yet.
    weights = [(out / "train" / f"{loss}-2" / "export" / "unet").glob("*.safetensors") for loss in SOME[:-1]]
    assert len({next(files).read_bytes() for files in weights}) == 2
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*.safetensors")}
    assert main(table2(place, out, SOME)) == 0  # goes on, that is: has nothing left to do
    assert table in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*.safetensors")} == before


def several_seeds(place: Path, jobs: str) -> dict[str, Any]:
    """The results of the first two of `SOME` with two seeds each."""
    out = place / f"jobs{jobs}"
    assert main([*table2(place, out, SOME[:2]), "--seed", "2", "--seed", "3", "--jobs", jobs]) == 0
    return json.loads((out / "table2.json").read_text())


@pytest.fixture
def side_by_side(monkeypatch) -> None:
    """Fewer draws in the processes that run side by side too, which begin with what is heavy imported."""

    def pool(jobs: int, **_: Any) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(jobs, mp_context=forked.CONTEXT, initializer=fewer_draws.begin)

    monkeypatch.setattr("humansd.reproduce.runs.ProcessPoolExecutor", pool)


def test_table_2_of_several_seeds_side_by_side_has_the_models_of_one_alone(place, some_losses, side_by_side, capsys):
    both, alone = several_seeds(place, "2"), json.loads((some_losses / "table2.json").read_text())
    assert set(both["posed"]) == {"ldm-2", "ldm-3", "reference-2", "reference-3"}
    for drawn, name in (("posed", "ldm-2"), ("posed", "reference-2"), ("text_only", "ldm-2"), ("text_only", "base")):
        assert both[drawn][name] == alone[drawn][name]
    assert both["posed"]["ldm-2"] != both["posed"]["ldm-3"]
    assert len(both["differences"]["reference"]["ap"]["seeds"]) == 2
    capsys.readouterr()
    assert main([*table2(place, place / "jobs2", ("ldm",)), "--jobs", "0"]) == 2
    assert "jobs is 0" in capsys.readouterr().err


@long_test
def test_table_2_of_several_seeds_is_the_same_side_by_side(place, side_by_side, capsys):
    results = [several_seeds(place, jobs) for jobs in ("1", "2")]
    one, other = capsys.readouterr().out.split("# HumanSD, table 2")[1:]
    assert one == other
    assert results[0] == results[1]


def test_table_2_needs_nothing_but_a_place(tmp_path, capsys):
    command = ["reproduce", "table2", "--out", str(tmp_path), "--images", "4", "--poses", "2", "--loss", "ldm"]
    command += ["--steps", "1", "--sampling-steps", "2", "--set", "batch_size=2", "--set", "compile=no"]
    assert main([*command, "--set", "log_images_minutes=0"]) == 0
    assert "All from pocket-without-pose, 1 steps" in capsys.readouterr().out
    plain = StableDiffusionPipeline.from_pretrained(tmp_path / "pocket-without-pose")
    assert plain.unet.config.in_channels == plain.vae.config.latent_channels
    results = json.loads((tmp_path / "table2.json").read_text())
    # Nothing is learnt in one step: from the text alone the model draws what its base draws.
    scores = [results["text_only"][name]["groups"]["all"]["generated"]["clipsim"] for name in ("base", "ldm-2")]
    assert scores[0] == pytest.approx(scores[1], abs=2)


def test_a_table_without_the_plain_loss_is_refused():
    with pytest.raises(ValueError, match="needs ldm"):
        Table2Settings(losses=("heatmap",))


def test_a_seed_or_loss_counts_once_and_the_tables_own_settings_are_its_options():
    with pytest.raises(ValueError, match=r"seeds = \(2, 3, 2\): name each once"):
        Table2Settings(seeds=(2, 3, 2))
    with pytest.raises(ValueError, match="name each once"):
        Table2Settings(losses=("ldm", "heatmap", "heatmap"))
    with pytest.raises(ValueError, match="--set seed: is the table's own; use --seed"):
        Table2Settings(overrides=(("seed", "4"),))


def test_a_table_goes_on_with_more_losses_but_not_with_other_steps(place, tmp_path, capsys):
    command = table2(place, tmp_path, ("ldm",))
    assert main([*command, "--set", "max_minutes=1e-9"]) == 2
    assert "stopped at step 1 of 2 by max_minutes; give the same command" in capsys.readouterr().err
    assert main(command) == 0
    for option in (["--steps", "3"], ["--poses", "3"], ["--set", "batch_size=1"]):
        assert main([*command, *option]) == 2
        assert "config.json" in capsys.readouterr().err
    assert main([*command, "--loss", "skeleton-mask", "--set", "mask_strength=2"]) == 2
    more = table2(place, tmp_path, ("ldm", "skeleton-mask"))
    assert main(more) == 0
    assert "| skeleton-mask |" in capsys.readouterr().out


def test_a_head_sees_what_its_model_saw(place, tmp_path):
    command = [*table2(place, tmp_path, ("ldm", "latent-heatmap")), "--set", "zero_terminal_snr=true"]
    parts = StableDiffusionPipeline.from_pretrained(place / "base")
    parts.register_modules(scheduler=pocket_scheduler())
    parts.save_pretrained(tmp_path / "velocity")
    command[command.index("--base-model") + 1] = str(tmp_path / "velocity")
    command[command.index("--out") + 1] = str(tmp_path / "out")
    assert main(command) == 0
    head = json.loads((tmp_path / "out" / "train" / "head" / "config.json").read_text())
    assert load_scheduler(head["components"], head["zero_terminal_snr"]).config.rescale_betas_zero_snr


def test_text_alone_draws_what_the_model_draws_without_a_pose(place):
    how = EvaluationSettings(
        model=str(place / "humansd"),
        estimator=f"centernet={place / 'centernet'}",
        clip="none",
        limit=2,
        sampling=SamplingConfig(num_inference_steps=2),
        timing_runs=0,
        text_only=True,
        device="cpu",
    )
    results = evaluate(how, place / "shards", place / "text", progress=False)
    assert results["settings"]["text_only"] is True
    pipeline = HumanSDPipeline.from_pretrained(place / "humansd")
    pipeline.set_progress_bar_config(disable=True)
    records = [json.loads(line) for file in (place / "text").rglob("*.jsonl") for line in file.read_text().splitlines()]
    for record in records:
        alone = pipeline(record["prompt"], None, num_inference_steps=2, seed=record["seed"]).images[0]
        drawn = Image.open(next((place / "text" / "images").glob(f"{record['key']}*.png")))
        assert np.abs(np.asarray(alone, int) - np.asarray(drawn.convert("RGB"), int)).max() <= 1


def test_figure_4_has_a_row_for_every_timestep(place, tmp_path, capsys):
    command = ["reproduce", "figure4", "--model", str(place / "humansd"), "--data", str(place / "shards")]
    command += ["--estimator", str(place / "hrnet"), "--out", str(tmp_path / "figure.png")]
    figures = []
    for timesteps in ([900], [100, 900]):
        chosen = [word for t in timesteps for word in ("--timestep", str(t))]
        assert main([*command, *chosen]) == 0
        figures.append(np.asarray(Image.open(tmp_path / "figure.png").convert("RGB")))
    one, two = figures
    assert len(two) > 1.8 * len(one)
    assert np.array_equal(one[6:], two[-len(one) + 6 :])  # the same noise in every row, whatever stands above it
    assert main([*command, "--timestep", "1000"]) == 2
    assert "0 to 999" in capsys.readouterr().err
    assert main([*command, "--sample", "10"]) == 2
    assert "no sample number 10" in capsys.readouterr().err


def test_the_speed_of_every_loss_is_printed():
    table = benchmark_losses(batch=1, steps=1, small=True)
    assert all(f"| {loss} |" in table for loss in LOSSES)
    with pytest.raises(ValueError, match="scale"):
        benchmark_losses("huge")


@pytest.fixture
def costs_once(monkeypatch) -> None:
    """What methods cost is counted once, however often a table is made."""
    known: dict[str, Any] = {}

    def costs(*given: Any) -> Any:
        if repr(given) not in known:
            known[repr(given)] = method_costs(*given)
        return known[repr(given)]

    monkeypatch.setattr("humansd.reproduce.table1.method_costs", costs)


def test_table_1_trains_every_method_from_one_start(place, costs_once, tmp_path, capsys):
    command = ["reproduce", "table1", "--base-model", str(place / "base"), "--data", str(place / "shards")]
    command += ["--test", str(place / "shards"), "--out", str(tmp_path), "--steps", "2", "--poses", "4"]
    command += ["--held-out", f"centernet={place / 'centernet'}", "--sampling-steps", "2", "--curve-steps", "2"]
    command += [word for row in ROWS if row != "humansd-heatmap" for word in ("--row", row)]
    command += ["--set", "batch_size=2", "--set", "log_images_minutes=0", "--set", "mixed_precision=no"]
    command += ["--set", "compile=no", "--set", "inference_steps=2"]  # of the curve's images
    assert main(command) == 0, capsys.readouterr().err
    table = capsys.readouterr().out
    results = json.loads((tmp_path / "table1.json").read_text())
    assert {name.removesuffix("-2") for name in results["scores"]} == {*ROWS} - {"humansd-heatmap"}
    assert set(results["differences"]) == {*ROWS} - {"humansd", "humansd-heatmap"}
    assert all(f"| {row} |" in table for row in ROWS if row != "humansd-heatmap")
    for name in ("gligen", "t2i-adapter", "controlnet", "humansd", "joint-maps"):
        config = json.loads((tmp_path / "train" / f"{name}-2" / "config.json").read_text())
        assert (config["method"], config["loss"], config["seed"]) == (name, "ldm", 2)
        index = json.loads((tmp_path / "train" / f"{name}-2" / "export" / "model_index.json").read_text())
        assert index["method"] == name
    costs = results["costs"]
    assert costs["sd"]["step"] == 1
    assert 1.2 < costs["controlnet"]["step"] < 3  # 1.35 at the size of SD 1.5, whose drawing is small beside it
    assert costs["t2i-adapter"]["once"] > 0 == costs["joint-maps"]["once"]
    assert costs["humansd"]["training"] == pytest.approx(3, abs=0.1)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == written
    assert main([*command, "--set", "learning_rate=0.1"]) == 2
    assert "learning_rate" in capsys.readouterr().err
