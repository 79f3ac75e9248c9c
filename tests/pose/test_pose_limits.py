"""Pose files that ask for much, wait for ever or hold what is none: refused in a moment, by name."""

from __future__ import annotations

import copy
import io
import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from humansd.benchmarks.fuzz import MAX_BYTES, fuzz
from humansd.benchmarks.fuzz_poses import ATTACKS
from humansd.pose import COCO17, HUMANART21, People, PoseError
from humansd.pose.formats import convert_published_npz, read_poses, write_poses
from humansd.pose.image_sizes import image_size
from humansd.pose.tools import draw_file
from pose_cases import pickled_npz, standing

IMAGE = {"id": 1, "file_name": "a"}
REMEDIES = {
    "15 MB of empty lists": "values that take .* GB of memory, the limit is 0.6 GB. Split it",
    "a million people, OpenPose": "1000001 people, the limit is 1000",
    "a million people, our own": "1000001 people in one image, the limit is 1000",
    "a million people, npz": "1000001 people in one image, the limit is 1000",
    "300,000 annotations of one image": "300001 people in 1 images, the limit is 1000 in each. Split",
    "meta of 20 MB of empty lists": "values that take .* GB of memory",
    "64 MB of zeros": "unpacks to .* times its size",
    "lists shared forty times": "is not a dict of keypoints",
    "a bytearray of 4 GB": "the operation 150, which no array needs",
    "ten million operations": "more than 600000 operations",
    "a pipe": "is a pipe or a device. Write its content to a file first",
    "a device without end": "is a pipe or a device",
    "half a character in a name": "half a character or a zero byte. Rename it",
}


@pytest.fixture(scope="module")
def outcomes():
    """Each attack by name, read in a process whose time and memory are measured."""
    found = fuzz("poses", range(len(ATTACKS)), seed=0).outcomes
    return dict(zip(ATTACKS, found, strict=True))


@pytest.mark.parametrize("name", list(ATTACKS))
def test_a_hostile_file_is_refused_before_it_costs_anything(outcomes, name: str) -> None:
    outcome = outcomes[name]
    assert outcome.kind == "refused", outcome
    assert outcome.seconds < 2
    assert outcome.bytes < MAX_BYTES
    if name in REMEDIES:
        assert re.search(REMEDIES[name], outcome.text), outcome.text


def changed(**person: Any) -> dict[str, Any]:
    value = standing().to_json()
    value["people"][0] |= person
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (changed(area="1.5"), "area: must be 1 numbers"),
        (changed(area=True), "area: must be 1 numbers"),
        (changed(area=[[]]), "area: must be 1 numbers"),
        (changed(score=[True] + [1.0] * 16), "score: must hold numbers"),
        (changed(xy=[["1", "2"]] * 17), "xy: must hold numbers"),
        (changed(visibility=[True] + [2] * 16), "visibility: "),
        (changed(extras=json.loads("[" * 40 + "]" * 40)), "extras: are nested deeper than 32"),
        (standing().to_json() | {"name": ["a"]}, "name: .* is not a text"),
        (standing().to_json() | {"name": "a\0b"}, "name: .* a zero byte"),
        ({"people": [], "canvas_width": 5, "canvas_height": 5, "humansd": {"name": 7}}, "name: 7 is not a text"),
        ({"images": [{"id": True, "file_name": "a.jpg"}], "annotations": []}, r"images\[0\]: needs an id"),
        (
            {"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": True}]},
            r"annotations\[0\].image_id: True is not the id",
        ),
        ({"images": [{"id": 1, "file_name": "/"}, {"id": 2, "file_name": "/"}], "annotations": []}, "two images"),
        (
            {"images": [IMAGE], "annotations": [{"image_id": 1, "keypoints_21": []}], "categories": 0},
            "categories: is not a list",
        ),
        ([{"people": []}] * 200_001, "200001 frames, the limit is 200000"),
        (
            {"images": [{"id": i, "file_name": f"{i}"} for i in range(200_001)], "annotations": []},
            "200001 images, the limit is 200000",
        ),
    ],
)
def test_wrong_types_and_numbers_beyond_a_limit_are_named(tmp_path: Path, value: Any, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(value))
    with pytest.raises(PoseError, match=rf"bad\.json: .*{message}"):
        read_poses(path)


def test_an_error_shows_little_of_a_large_value(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(standing().to_json() | {"canvas": list(range(100_000))}))
    with pytest.raises(PoseError) as caught:
        read_poses(path)
    assert len(str(caught.value)) < len(str(path)) + 400


def test_areas_of_nobody_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_poses(path, {"a": standing()}, "npz")
    arrays = dict(np.load(path))
    np.savez(path, **{**arrays, "area": np.zeros(5)})
    with pytest.raises(PoseError, match=r"a\.npz: area: has joints of nobody"):
        read_poses(path)


def test_a_thousand_people_in_every_form_that_numpy_writes_are_within_the_limits(tmp_path: Path) -> None:
    rows = np.arange(51, dtype=np.float32).reshape(17, 3) / 51
    scalars = [[np.float32(v) for v in row] for row in rows]
    for keypoints in (rows, scalars, rows.astype(">f8"), np.asfortranarray(rows), rows.tolist()):
        people = np.empty(1000, object)
        people[:] = [{"keypoints": copy.deepcopy(keypoints), "score": np.float32(0.5)} for _ in people]
        read = convert_published_npz(pickled_npz(tmp_path / "p.npz", pickle.dumps(people, protocol=4)), (9, 9))
        assert read.n == 1000
        np.testing.assert_array_equal(read.xy[999], np.array(keypoints, np.float64)[:, :2])
        assert read.extras[3] == {"score": 0.5}


@pytest.mark.parametrize("format", ["coco", "humanart", "npz", "humansd"])
def test_a_thousand_people_of_an_image_are_still_read(tmp_path: Path, format: str) -> None:
    skeleton = HUMANART21 if format == "humanart" else COCO17
    one = standing((300, 500)).to_skeleton(skeleton)
    crowd = People(
        np.repeat(one.xy, 1000, axis=0), np.repeat(one.score, 1000, axis=0), np.repeat(one.visibility, 1000, axis=0),
        one.canvas, skeleton,
    )  # fmt: skip
    path = tmp_path / f"a.{'npz' if format == 'npz' else 'json'}"
    write_poses(path, {"a": crowd}, format)
    assert read_poses(path)["a"].xy.tobytes() == crowd.xy.tobytes()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_the_size_of_an_image_is_known_before_it_is_decoded(tmp_path: Path, kind: str) -> None:
    for width, height in ((1, 1), (7, 300), (301, 16)):
        for options in ({}, {"lossless": True}, {"progressive": True}, {"exif": b"Exif\0\0" + bytes(300)}):
            stream = io.BytesIO()
            Image.new("RGB", (width, height)).save(stream, kind, **options)
            assert image_size(stream.getvalue()) == (width, height)
            assert image_size(stream.getvalue()[:12]) is None
    assert image_size(b"GIF89a" + bytes(30)) is None


def test_a_huge_background_and_a_huge_canvas_are_refused(tmp_path: Path) -> None:
    pose, bomb = tmp_path / "a.json", tmp_path / "bomb.png"
    write_poses(pose, {"a": standing()}, "coco")
    Image.new("1", (20_000, 20_000)).save(bomb)
    with pytest.raises(
        PoseError, match=r"bomb\.png: has 20000 x 20000 px, the limit is 64 megapixels. Make it smaller"
    ):
        draw_file(pose, tmp_path / "out.png", background=bomb)
    write_poses(pose, {"a": standing((30_000, 30_000))}, "coco")
    with pytest.raises(PoseError, match=r"a\.json: canvas: is 30000 x 30000 px, the limit is 64 megapixels"):
        draw_file(pose, tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()
