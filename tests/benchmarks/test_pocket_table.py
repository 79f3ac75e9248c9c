"""What the pocket model promises: the lines with known answers, the command at tiny size, and the sheet."""

import hashlib
import json

import numpy as np
import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image

from humansd.benchmarks.pocket_lines import table_lines
from humansd.benchmarks.pocket_table import PocketTableSettings, unet_calls
from humansd.benchmarks.pose_sheet import COLUMNS, GAP, SIDES, draw_pose_sheet, lay_out
from humansd.cli import main
from humansd.data.real_poses import EVALUATION_COUNT, EVALUATION_SEED, load_real_poses, real_pose_ids
from humansd.evaluation.pose_sets import read_pose_set
from humansd.inference.variants import Variant, write_variant
from humansd.models.centernet_pose import CenterNetPose, CenterNetPoseConfig
from humansd.models.lora import write_unet_lora
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.formats import write_poses
from humansd.synthetic.framing import ASSET
from shared_data import DATA
from tiny_pipeline import standing, tiny_components

pytestmark = pytest.mark.usefixtures("few_draws")
REAL = DATA / "coco-train-poses"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny model of 16 px with a few-step variant, an estimator that knows nothing, and three real images."""
    folder = tmp_path_factory.mktemp("promises")
    parts = tiny_components()
    HumanSDPipeline(**parts, num_inference_steps=3, guidance={"text": 2.0, "pose": 1.5}).save_pretrained(
        folder / "model"
    )
    parts["unet"].add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q"]))
    write_unet_lora(get_peft_model_state_dict(parts["unet"]), folder / "lora.safetensors")
    write_variant(folder / "model", "four-steps", folder / "lora.safetensors", Variant(2, scheduler="ddim"))
    torch.manual_seed(0)
    CenterNetPose(CenterNetPoseConfig(channels=(8, 16, 24, 32))).save_pretrained(folder / "centernet")
    poses = {f"{i:012d}": standing((96, 96), float(3 * i)) for i in range(3)}
    write_poses(folder / "real.json", poses, "coco")
    return folder


@pytest.mark.parametrize(
    ("guidance", "steps", "calls"),
    [({"text": 4.0, "pose": 3.0}, 25, 75), ({"text": 4.0, "pose": 1.0}, 8, 16), ({"text": 1.0, "pose": 1.0}, 4, 4)],
)
def test_calls_of_the_unet_are_those_that_it_gets(guidance, steps, calls):
    pipeline = HumanSDPipeline(**tiny_components(), num_inference_steps=steps, guidance=guidance)
    pipeline.set_progress_bar_config(disable=True)
    assert unet_calls(pipeline) == calls
    got = []
    pipeline.unet.register_forward_pre_hook(lambda _module, given: got.append(len(given[0])))
    pipeline("a man", standing(), seed=0)
    assert sum(got) == calls


def _results(ap, ceiling, *, medium=None, pce=0.5, color=0.9, clipsim=20.0):
    side = {"ap": ap, "ap_medium": medium, "pce": pce, "clipsim": clipsim}
    real = {"ap": ceiling, "ap_medium": 0.5, "pce": 0.1, "clipsim": 25.0}
    groups = {name: {"generated": side, "ceiling": real} for name in ("all", "1 to 3 people", "4 to 8 people")}
    colors = {name: {"generated": color, "ceiling": 0.95} for name in ("all", "person 2")}
    ends = {"ap": [ap - 0.1, ap + 0.1], "color": [color - 0.1, color + 0.1]}
    return {"groups": groups, "colors": colors, "intervals": ends, "time": {"seconds": 0.12}}


def test_the_lines_hold_shares_aims_and_what_has_no_value():
    found = {
        "default": {"seen": _results(0.72, 0.8), "held_out": _results(0.7, 0.8, color=0.7)},
        "real": _results(0.3, None),
        "few": _results(0.5, 0.8),
        "few_calls": 4,
        "others": {"centernet=old": {"seen": _results(0.6, 0.8), "real": _results(0.2, None)}},
    }
    lines = {line.name: line for line in table_lines(found, {"share": 0.82, "low": 0.7, "high": 0.9}, 8)}
    ap = lines["AP as a share of the ceiling, Atelier's poses"]
    assert (ap.value, ap.low, ap.high) == pytest.approx((0.9, 0.775, 1.025))
    assert ap.reached is True
    assert lines["AP, real poses, people with 8 joints or more"].value == pytest.approx(30)
    assert lines["AP, real poses, people with 8 joints or more"].reached is False
    assert lines["AP(m), Atelier's poses"].value is None
    assert lines["AP(m), Atelier's poses"].beside == 50
    assert lines["PCE, 1 to 3 people"].reached is False  # 0.5 of at most 0.25
    assert lines["PCE, 4 to 8 people"].reached is True
    assert [lines[f"torso color right, {one}, %"].reached for one in ("seen phrasings", "held-out phrasings")] == [
        True,
        False,
    ]
    assert lines["CLIPSIM as a share of the real pairs'"].value == pytest.approx(0.8)
    assert lines["UNet calls an image"].reached is True
    assert lines["few steps: AP as a share of the default variant's"].value == pytest.approx(0.5 / 0.72)
    assert lines["few steps: seconds an image, batch 1, all in"].reached is True
    assert lines["AP as a share of the ceiling, found by centernet"].value == pytest.approx(0.75)
    assert lines["AP, real poses, found by centernet"].value == pytest.approx(20)


def test_one_command_measures_them_all_and_goes_on(place, capsys):
    out = place / "table"
    command = [
        "benchmark",
        "pocket",
        "--model",
        str(place / "model"),
        "--size",
        "64",
        "--poses",
        "3",
        "--out",
        str(out),
    ]
    command += ["--real-poses", str(place / "real.json"), "--real-count", "2", "--prompts", "2", "--seeds", "2"]
    command += ["--held-out", f"centernet={place / 'centernet'}", "--timing-runs", "1", "--dtype", "fp32"]
    command += ["--beside", "centernet"]
    assert main(command) == 0
    page = capsys.readouterr().out
    assert "drawn by seed 256" in page
    known = json.loads((out / "pocket.json").read_text())
    lines = {line["name"]: line for line in known["lines"]}
    assert lines["UNet calls an image"]["value"] == 9
    assert lines["few steps: UNet calls an image"]["value"] == 2
    assert lines["few steps: seconds an image, batch 1, all in"]["value"] > 0
    assert str(place) not in json.dumps(known["settings"]["real_poses"])
    assert "AP, real poses, found by centernet" in lines
    first, second = (sorted(folder.rglob("*.png")) for folder in (out / "evaluate-seen", out / "others"))
    assert {file.read_bytes() for file in first} <= {file.read_bytes() for file in second}  # none was drawn anew
    drawn = sorted((out / "evaluate-real").rglob("*.png"))
    assert len(drawn) == 2
    with Image.open(drawn[0]) as image:  # drawn at 16 px and enlarged
        assert image.size == (64, 64)
        small = np.asarray(image.convert("RGB").resize((16, 16), Image.Resampling.BICUBIC).resize((64, 64), 3), float)
        assert np.abs(np.asarray(image.convert("RGB"), float) - small).mean() < 8
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*.png")}
    assert main(command) == 0
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*.png")} == before


def test_the_sheet_shows_half_real_poses_with_fixed_seeds(place, tmp_path):
    sums = []
    for name in ("one.png", "two.png"):
        file = draw_pose_sheet(
            tmp_path / name, place / "real.json", model=str(place / "model"), count=4, device="cpu", dtype="fp32"
        )
        sums.append(hashlib.sha256(file.read_bytes()).hexdigest())
    assert sums[0] == sums[1]
    large, small = SIDES
    with Image.open(tmp_path / "one.png") as sheet:
        assert sheet.size == (COLUMNS * (large + GAP) + GAP, large + small + 3 * GAP)
    with pytest.raises(ValueError, match="shows somebody in 3 images, 4 are asked for"):
        draw_pose_sheet(tmp_path / "many.png", place / "real.json", model=str(place / "model"), count=8, device="cpu")
    with pytest.raises(ValueError, match="count is 3; it must be even"):
        draw_pose_sheet(tmp_path / "odd.png", place / "real.json", count=3)


def test_images_of_another_shape_are_not_stretched():
    sheet = lay_out([Image.new("RGB", (32, 16), "black")], [np.zeros((16, 32, 3), np.uint8)])
    column = np.asarray(sheet)[GAP : GAP + SIDES[0], GAP + SIDES[0] // 2]
    assert (column == 0).all(axis=1).sum() == pytest.approx(SIDES[0] / 2, abs=2)


@pytest.mark.skipif(not REAL.exists(), reason="no real poses beside the repository")
def test_the_real_poses_that_measure_are_in_no_statistic():
    poses = load_real_poses(REAL)
    kept = real_pose_ids(poses.coco_id)
    assert len(kept) == len(set(kept)) == EVALUATION_COUNT
    table = json.loads(ASSET.read_text())
    assert table["left_out"] == {"seed": EVALUATION_SEED, "count": EVALUATION_COUNT}
    # So many images were counted as show somebody in the square that is cut, the kept ones not among them.
    kept_shown = sum(1 for people in poses.squares(kept) if people.n)
    assert table["real"]["images"] <= len(poses.coco_id) - kept_shown


def test_a_pose_set_draws_the_images_that_statistics_leave_out(tmp_path):
    ids = np.random.default_rng(0).permutation(np.arange(100, 130))
    keypoints = np.stack([standing((64, 64), float(i)).xy[0].round() for i in range(30)]).astype(np.int16)
    keypoints = np.concatenate([keypoints, np.full((30, 17, 1), 2, np.int16)], axis=2)
    canvas = np.full((30, 2), 64, np.int16)
    archive = {"keypoints": keypoints, "image": np.arange(30, dtype=np.int32), "canvas": canvas, "coco_id": ids}
    np.savez(tmp_path / "poses.npz", **archive)
    drawn = read_pose_set(tmp_path, count=7, seed=EVALUATION_SEED)
    assert sorted(map(int, drawn.poses)) == real_pose_ids(ids, count=7)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="poses is 0"):
        PocketTableSettings(poses=0)
