"""Scoring and timing estimators: known answers with an estimator that finds exactly what was painted."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from blob_people import BlobEstimator, paint
from humansd.benchmarks.speed import crowded_images, time_estimator
from humansd.cli import main
from humansd.evaluation.estimators import Seen, as_markdown, count_error, score_estimator, sheet_of, summarise
from humansd.evaluation.overlay import likeness
from humansd.models.centernet_pose import CenterNetPose, CenterNetPoseConfig, CenterNetPoseEstimator
from humansd.models.digests import networks_digest
from humansd.models.estimators import ESTIMATORS, load_estimator
from humansd.models.higherhrnet import CONFIGS, HigherHRNet
from humansd.models.keypoints import HigherHRNetEstimator
from humansd.pose.formats import write_poses
from humansd.pose.people import People


def painted(n: int, seed: int = 0, canvas=(160, 120)) -> People:
    rng = np.random.default_rng(seed)
    cells = rng.permutation(20 * 15)[: n * 17]  # a place of its own for every square
    places = np.stack([cells % 20 * 8 + 4, cells // 20 * 8 + 4], axis=1).reshape(n, 17, 2)
    return People.of(places, canvas) if n else People.empty(canvas)


def seen(n: int, scene: str = "photo", seed: int = 0, found: People | None = None) -> Seen:
    people = painted(n, seed)
    return Seen(paint(people), people, people if found is None else found, scene)


@pytest.fixture(scope="module")
def coco_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    poses = {f"image-{i}": painted(n, i) for i, n in enumerate((1, 2, 3, 1))}
    for name, people in poses.items():
        Image.fromarray(paint(people)).save(folder / f"{name}.png")
    images = {name: {"file_name": f"{name}.png"} for name in poses}
    write_poses(folder / "poses.json", poses, "coco", images=images)
    return folder / "poses.json"


def test_an_estimator_that_finds_everything_scores_one_and_counts_exactly(coco_file, tmp_path):
    results = score_estimator(BlobEstimator(), coco_file, tmp_path, images=coco_file.parent, progress=False)
    assert results["weights"] == networks_digest(BlobEstimator().networks)
    assert results["scores"]["overall"]["ap"] == pytest.approx(1.0)
    assert results["scores"]["overall"]["n_people"] == 7
    assert results["scores"]["2 people"]["n_images"] == 1
    assert results["scores"]["single person, photo-like"]["n_images"] == 2
    assert results["count_error_by_threshold"][str(results["best_count_threshold"])] == 0
    written = json.loads((tmp_path / "results.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert written == results
    assert "| overall | 4 | 7 | 100.0 |" in (tmp_path / "results.md").read_text()
    assert Image.open(tmp_path / "sheet.png").width > 300


def test_images_outside_the_named_folder_are_not_opened(coco_file, tmp_path):
    data = json.loads(coco_file.read_text())
    data["images"][0]["file_name"] = "../secret.png"
    (tmp_path / "poses.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="outside"):
        score_estimator(BlobEstimator(), tmp_path / "poses.json", tmp_path, images=coco_file.parent, progress=False)


def test_crowds_and_people_without_joints_are_not_counted():
    people = painted(3)
    marked = dataclasses.replace(
        people,
        visibility=np.where(np.arange(3)[:, None] == 2, 0, people.visibility),
        extras=({}, {"iscrowd": 1}, {"iscrowd": 0}),
    )
    one = Seen(paint(people), marked, people.select([0]), "photo")
    assert one.n_true == 1
    assert count_error([one], 0.5) == 0
    assert likeness(one.truth, one.found) == pytest.approx(1.0)


def test_silhouettes_are_listed_apart():
    blind = People.empty((160, 120))
    results = summarise([seen(1), seen(1, "shadow_play", found=blind), seen(1, "cartoon", 2)])
    assert results["scores"]["overall"]["ap"] == pytest.approx(1.0)
    assert results["scores"]["overall"]["n_images"] == 2
    assert results["scores"]["silhouettes"]["ap"] == 0
    assert results["scores"]["scene shadow_play"]["n_images"] == 1


def test_counting_errors_by_hand():
    people = painted(2)
    sure = dataclasses.replace(people, extras=({"score": 0.9}, {"score": 0.3}))
    images = [seen(2, found=sure), seen(1, found=sure)]
    assert count_error(images, 0.2) == 0.5
    assert count_error(images, 0.5) == 0.5
    assert count_error(images, 0.95) == 1.5
    assert math.isnan(count_error([], 0.5))


def likeness_of(one: Seen) -> float:
    return likeness(one.truth, one.found)


def test_likeness_ranks_images_and_nobody_has_none():
    truth = painted(1)
    assert likeness_of(seen(1)) == pytest.approx(1.0)
    assert likeness_of(seen(1, found=People.empty(truth.canvas))) == 0
    assert math.isnan(likeness_of(seen(0)))
    assert sheet_of([seen(0)]).height > 100  # a set of images of nobody still has a sheet
    text = as_markdown({"estimator": "x", "data": "y", **summarise([seen(0)])})
    assert "| overall | 1 | 0 | - | - |" in text


def test_the_command_says_what_is_missing(coco_file, tmp_path, capsys):
    assert main(["pose", "score", str(coco_file), "--out", str(tmp_path), "--estimator", "vitpos"]) == 2
    assert "choose one of movenet, higherhrnet, centernet, vitpose, rtmlib" in capsys.readouterr().err
    with pytest.raises(ValueError, match="Name their folder: --images"):
        score_estimator(BlobEstimator(), coco_file, tmp_path, progress=False)


def test_a_folder_without_weights_is_named_with_the_remedy(tmp_path):
    for name in ("higherhrnet", "centernet"):
        assert name in ESTIMATORS
        with pytest.raises(FileNotFoundError, match=rf"no model\.safetensors; .*train pocket-{name}"):
            load_estimator(name, str(tmp_path))


def test_a_folder_of_another_estimator_or_a_damaged_one_is_named(tmp_path):
    HigherHRNet(CONFIGS["pocket"]).save_pretrained(tmp_path / "hrnet")
    CenterNetPose(CenterNetPoseConfig()).save_pretrained(tmp_path / "centernet")
    CenterNetPose(CenterNetPoseConfig(channels=(8, 16, 24, 32))).save_pretrained(tmp_path / "small")
    for name, folder in (("centernet", "hrnet"), ("higherhrnet", "centernet")):
        with pytest.raises(ValueError, match=rf"{folder}: not a folder of a .* name the export of its own training"):
            load_estimator(name, str(tmp_path / folder))
    (tmp_path / "small" / "config.json").write_text((tmp_path / "centernet" / "config.json").read_text())
    with pytest.raises(ValueError, match=r"small: not the weights of this CenterNetPose: .* of another shape"):
        load_estimator("centernet", str(tmp_path / "small"))
    for damage in ("config.json", "model.safetensors"):
        (tmp_path / "centernet" / damage).write_bytes(b"{]")
        with pytest.raises(ValueError, match="centernet: not a folder of a CenterNetPose"):
            load_estimator("centernet", str(tmp_path / "centernet"))
    with pytest.raises(ValueError, match="device 'cud' cannot be used"):
        load_estimator("centernet", str(tmp_path / "hrnet"), "cud")


@pytest.mark.parametrize("kind", ["higherhrnet", "centernet"])
def test_time_outside_the_network_is_told(kind):
    torch.manual_seed(0)
    images = crowded_images(2, people=1, size=64)
    if kind == "higherhrnet":
        estimator = HigherHRNetEstimator(HigherHRNet(CONFIGS["pocket"]).eval())
    else:
        estimator = CenterNetPoseEstimator(CenterNetPose(CenterNetPoseConfig()).eval())
    speed = time_estimator(estimator, images)
    assert speed.n_images == 2
    assert speed.images_per_s > 0
    assert 0 < speed.outside_share < 1
    assert not estimator.network._forward_hooks  # nothing is left behind
