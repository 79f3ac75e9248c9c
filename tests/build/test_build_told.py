"""What a builder says besides the numbers: people without a pose, what a mixture holds, whose license it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import shard_makers
from build_makers import image_bytes, standing
from humansd.build.union import Part, build_union
from humansd.cli import main
from humansd.data.shards import read_shards, write_shards

SIZE = (80, 80)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Two images: in one a person with a pose, one without and a crowd, in the other a dog and a person."""
    folder = tmp_path / "people"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"{number}.png").write_bytes(image_bytes(number, SIZE, "PNG"))
    points = np.concatenate([standing(SIZE).xy[0], np.full((17, 1), 2)], axis=1).reshape(-1).tolist()
    rows = [(1, 1, points, 0), (1, 1, [0] * 51, 0), (1, 1, [0] * 51, 1), (2, 18, [0] * 51, 0), (2, 1, points, 0)]
    notes = [
        {"id": n, "image_id": image, "category_id": kind, "keypoints": joints, "iscrowd": crowd, "area": 9.0}
        for n, (image, kind, joints, crowd) in enumerate(rows)
    ]
    images = [{"id": n, "file_name": f"{n}.png", "width": SIZE[0], "height": SIZE[1]} for n in (1, 2)]
    images[0]["license"] = 4
    kinds = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
    licenses = [{"id": 4, "name": "CC BY"}]
    told = {"images": images, "annotations": notes, "categories": kinds, "licenses": licenses}
    (folder / "person_keypoints.json").write_text(json.dumps(told))
    return folder


def _run(coco: Path, out: Path, *options: str) -> str:
    assert main(["data", "import", str(coco), "--out", str(out), "--estimator", "none", *options]) == 0
    return (out / "README.md").read_text()


def test_people_without_a_pose_are_counted(coco, tmp_path, capsys):
    card = _run(coco, tmp_path / "out", "--caption", "photo, somebody")
    said = "2 people of the list have no key points and so no pose, in 1 of the images"
    assert f"Note: {said}" in capsys.readouterr().out
    assert f"- {said}" in card
    first, second = sorted(read_shards(tmp_path / "out"), key=lambda one: one.extras["origin"]["file"])
    assert (first.people.n, first.extras["people_without_pose"]) == (1, 2)
    assert (second.people.n, second.extras.get("people_without_pose")) == (1, None)
    assert first.caption == "photo, somebody"


def test_a_license_given_for_all_does_not_hide_those_of_the_samples(coco, tmp_path):
    card = _run(coco, tmp_path / "out", "--caption", "photo, somebody", "--license", "CC0-1.0")
    assert "| license | named by each sample; CC0-1.0 where none is named |" in card
    assert {sample.license for sample in read_shards(tmp_path / "out")} == {"CC BY", "CC0-1.0"}


def test_images_without_captions_name_the_option_that_gives_one(coco, tmp_path, capsys):
    command = ["data", "import", str(coco), "--out", str(tmp_path / "out"), "--estimator", "none"]
    assert main(command) == 2
    assert "--caption TEXT" in capsys.readouterr().err


def test_a_mixture_says_what_of_each_part_is_in_it(tmp_path):
    for name, count in (("small", 2), ("large", 9)):
        write_shards(shard_makers.make, count, tmp_path / name, per_shard=4, workers=1, progress=False)
    parts = [Part(str(tmp_path / "small"), 2.0), Part(str(tmp_path / "large"), 1.0)]
    build_union(parts, tmp_path / "out", progress=False)
    card = (tmp_path / "out" / "README.md").read_text()
    held = {name: [] for name in ("small", "large")}
    for sample in read_shards(tmp_path / "out"):
        held[sample.extras["from"]["set"]].append(sample.extras["from"]["key"])
    assert (len(held["small"]), len(held["large"])) == (7, 4)
    assert "- small: all 2 samples, 3 to 4 times each" in card
    assert "- large: 4 of its 9 samples" in card
    assert "- all samples of all parts are in a mixture of 27 (--count)" in card
    build_union(parts, tmp_path / "all", count=27, progress=False)
    card = (tmp_path / "all" / "README.md").read_text()
    assert "- small: all 2 samples, 9 times each" in card
    assert "- large: all 9 samples, once each" in card
