"""Evaluations on real poses without images: what is drawn, told and ignored, from end to end with tiny models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from humansd.cli import main
from humansd.data.real_poses import real_pose_ids
from humansd.evaluation.compare import compare_runs
from humansd.evaluation.pose_sets import GROUP, PoseSet, caption_for, read_pose_set, view_of
from humansd.evaluation.records import read_run
from humansd.models.centernet_pose import CenterNetPose, CenterNetPoseConfig
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.formats import write_poses
from humansd.pose.people import People
from humansd.synthetic.plan import COLORS
from shared_data import DATA
from tiny_pipeline import standing, tiny_components

ARCHIVE = DATA / "coco-train-poses"
WIDE = (160, 120)
NUMBERS = ["", "", "two", "three", "four", "five", "six", "seven", "eight"]


def crowd(n: int, canvas: tuple[int, int] = WIDE) -> People:
    """n people side by side, the left one last."""
    one = standing((30, 100)).xy[0]
    xy = [one + np.array([5 + (canvas[0] - 45) * i / max(n - 1, 1), 10]) for i in range(n)][::-1]
    return People.of(np.array(xy), canvas)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("poses") / "people.json"
    rng = np.random.default_rng(0)
    poses = {f"image {i}": crowd(int(rng.integers(1, 5))) for i in range(12)}
    poses["nobody"] = People.empty(WIDE)
    write_poses(place, poses, "coco")
    return place


def test_images_are_drawn_by_the_seed_and_keep_all_their_people(file):
    everyone = read_pose_set(file)
    assert "nobody" not in everyone.poses
    assert len(everyone.poses) == 12
    first, again, other = (read_pose_set(file, count=5, seed=seed) for seed in (1, 1, 2))
    assert list(first.poses) == list(again.poses) != list(other.poses)
    assert list(first.poses) == sorted(first.poses)
    assert list(read_pose_set(file, count=5, seed=1, limit=2).poses) == list(first.poses)[:2]
    assert all(first.poses[name].equals(everyone.poses[name]) for name in first.poses)
    with pytest.raises(ValueError, match=r"count is 13: \S+ shows somebody in 12 images"):
        read_pose_set(file, count=13)


def test_cuts_have_the_shape_of_the_model_and_people_from_left_to_right(file):
    cuts = list(read_pose_set(file).cuts((16, 16)))
    for cut in cuts:
        assert cut.image is None
        assert cut.people.canvas == (16, 16)
        left = cut.people.boxes()[:, 0]
        assert (np.diff(left) > 0).all()
        assert len(cut.tops) in (0, cut.people.n)
    assert len({cut.key for cut in cuts}) == 12
    assert {cut.way for cut in cuts} <= {"window", "centre"}


def test_the_digest_is_of_poses_and_captions_alike_for_all_sizes_of_a_shape(file):
    record = read_pose_set(file, count=4, seed=3).record((16, 16))
    assert record == {**read_pose_set(file, count=4, seed=3).record((64, 64)), "name": "people.json"}
    others = (
        read_pose_set(file, count=4, seed=4),
        read_pose_set(file, count=4, seed=3, phrasing="held_out"),
        read_pose_set(file, count=5, seed=3),
    )
    digests = {other.record((16, 16))["digest"] for other in others}
    assert len(digests | {record["digest"]}) == 4


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 9, 13])
@pytest.mark.parametrize("phrasing", ["seen", "held_out"])
def test_a_caption_has_the_number_of_people_of_its_image(n, phrasing):
    people = crowd(n, (400, 120))
    for seed in range(20):
        caption, scene, tops = caption_for(people, np.random.default_rng(seed), phrasing)
        assert caption.startswith(f"{scene}, ")
        assert len(caption.split()) <= 60
        if n > 8:
            assert GROUP in caption
            assert not any(word in caption.split() for word in NUMBERS[2:])
            assert tops == ()
        elif n > 3:
            assert f"{NUMBERS[n]} people" in caption or f"of {NUMBERS[n]}" in caption
        if tops and n < 4:
            assert len(tops) == n
            assert set(tops) <= {*COLORS, None}


def test_a_caption_names_no_clothes_that_the_pose_does_not_show():
    people = crowd(1)
    above = People.of(people.xy, WIDE, visibility=np.where(np.arange(17) < 11, 2, 0)[None])
    view = view_of(above, 0)
    assert (view.top, view.bottom, view.legs, view.framing) == (True, False, False, "chest")
    assert (view_of(people, 0).bottom, view_of(people, 0).framing) == (True, "full")
    assert not view_of(people, 0).action
    far = People.of(people.xy / 12, WIDE)
    assert (view_of(far, 0).top, view_of(far, 0).distance) == (False, "distant")
    for seed in range(10):
        told = caption_for(above, np.random.default_rng(seed))[0]
        assert not any(word in told for word in ("trousers", "pants", "skirt", "shorts", "leggings", "tights"))


def test_an_image_of_which_the_cut_leaves_nobody_does_not_count():
    edge = People.of(np.array([[[1.0, 5.0]] * 17, [[298.0, 5.0]] * 17]), (300, 10))
    poses = PoseSet("edge", {"edge": edge, "middle": crowd(1)}, 0)
    assert (poses.total((16, 16)), [cut.key for cut in poses.cuts((16, 16))]) == (1, ["middle"])
    with pytest.raises(ValueError, match="edge: nobody is left of any image in the shape 16 x 16"):
        PoseSet("edge", {"edge": edge}, 0).total((16, 16))


@pytest.mark.skipif(not ARCHIVE.exists(), reason="the archive of real poses is not here")
def test_the_archive_gives_the_images_that_are_kept_for_evaluation():
    drawn = read_pose_set(ARCHIVE, count=500, seed=256)
    with np.load(ARCHIVE / "poses.npz") as archive:
        numbers, image = archive["coco_id"], archive["image"]
    assert [int(name) for name in drawn.poses] == real_pose_ids(numbers)
    people = dict(zip(numbers.tolist(), np.bincount(image, minlength=len(numbers)).tolist(), strict=True))
    assert all(one.n == people[int(name)] for name, one in drawn.poses.items())


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    for seed in (0, 1):
        torch.manual_seed(seed)
        parts = tiny_components()
        with torch.no_grad():
            parts["unet"].conv_in.bias += seed
        HumanSDPipeline(**parts).save_pretrained(folder / f"model{seed}")
    torch.manual_seed(0)
    CenterNetPose(CenterNetPoseConfig(channels=(8, 16, 24, 32))).save_pretrained(folder / "centernet")
    return folder


def arguments(place: Path, file: Path, out: str, model: int = 0) -> list[str]:
    given = ["evaluate", "--model", str(place / f"model{model}"), "--poses", str(file), "--count", "6"]
    given += [
        "--estimator",
        f"centernet={place / 'centernet'}",
        "--steps",
        "1",
        "--timing-runs",
        "0",
        "--device",
        "cpu",
    ]
    return [*given, "--out", str(place / out)]


@pytest.mark.filterwarnings("ignore:prompt")
def test_two_models_are_evaluated_and_compared_on_poses_alone(place, file, capsys):
    assert main(arguments(place, file, "a")) == 0
    results = json.loads((place / "a" / "results.json").read_text())
    everything = results["groups"]["all"]
    assert everything["generated"]["images"] == 6
    assert everything["generated"]["ap"] is not None
    assert everything["generated"]["clipsim"] is not None
    assert everything["ceiling"]["ap"] is None
    assert results["distances"] == {}
    assert not results["real_images"]
    assert "there are no real images, so ceilings and distances have no value" in results["notes"]
    assert results["settings"]["min_joints"] == 8
    assert results["count_threshold"] == results["settings"]["count_threshold"]
    assert "6 poses without images of people.json" in (place / "a" / "results.md").read_text()
    assert "at least 8 joints" in (place / "a" / "results.md").read_text()
    assert main(arguments(place, file, "b", model=1)) == 0
    differences = compare_runs([place / "a", place / "b"], place / "side")["differences"]["b"]
    assert {"ap", "cap", "pce", "clipsim"} <= set(differences)
    assert all(record.ceiling is None for record in read_run(place / "b").records)
    capsys.readouterr()


@pytest.mark.filterwarnings("ignore:prompt")
def test_a_run_goes_on_only_on_the_same_poses(place, file, capsys, tmp_path):
    run = str(tmp_path / "run")
    given = [*arguments(place, file, "a")[:-1], run, "--count-threshold", "0.4"]
    assert main(given) == 0
    assert main(given) == 0
    assert main([*given, "--pose-seed", "7"]) == 2
    assert "begun with data." in capsys.readouterr().err
    assert main([*given, "--min-joints", "3"]) == 2
    assert "begun with min_joints = 8, now 3" in capsys.readouterr().err
    data = [value if value != "--poses" else "--data" for value in given]
    assert main(data) == 2
    assert "--count is of --poses" in capsys.readouterr().err
