"""Pose files: lossless round trips, the forms found in the wild, and real data where it lies beside us."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humansd.pose import COCO17, HUMANART21, OPENPOSE18, People, PoseWarning
from humansd.pose.formats import convert_published_npz, read_image_records, read_poses, write_poses
from pose_cases import some_people, standing
from shared_data import COCO_PEOPLE, DATA

COCO_FILE = COCO_PEOPLE / "person_keypoints.json"
HUMANART_FILE = DATA / "humanart-sample" / "test_humanart.json"
NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12),
    min_size=1,
    max_size=3,
    unique=True,
)
PLAIN = settings(max_examples=30, deadline=None)


def there_and_back(poses: dict[str, People], format: str, suffix: str) -> dict[str, People]:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", PoseWarning)
        path = Path(folder) / f"file{suffix}"
        write_poses(path, poses, format)
        assert [p.name for p in Path(folder).iterdir()] == [path.name]  # no temporary file is left
        return read_poses(path)


def assert_same(left: dict[str, People], right: dict[str, People]) -> None:
    assert list(left) == list(right)
    assert all(left[name].equals(right[name]) for name in left)


@PLAIN
@given(NAMES, st.data(), st.sampled_from([COCO17, OPENPOSE18, HUMANART21]))
def test_coco_is_lossless(names: list[str], data: st.DataObject, skeleton: Any) -> None:
    poses = {name: data.draw(some_people((skeleton,))) for name in names}
    assert_same(there_and_back(poses, "coco", ".json"), poses)


@PLAIN
@given(NAMES, st.data(), st.sampled_from([COCO17, HUMANART21]))
def test_humanart_is_lossless(names: list[str], data: st.DataObject, skeleton: Any) -> None:
    poses = {name: data.draw(some_people((skeleton,))) for name in names}
    assert_same(there_and_back(poses, "humanart", ".json"), poses)


@PLAIN
@given(NAMES, st.data())
def test_npz_is_lossless(names: list[str], data: st.DataObject) -> None:
    poses = {name: data.draw(some_people()) for name in names}
    assert_same(there_and_back(poses, "npz", ".npz"), poses)


@PLAIN
@given(NAMES, some_people((COCO17, OPENPOSE18)))
def test_openpose_is_lossless(names: list[str], people: People) -> None:
    assert_same(there_and_back({names[0]: people}, "openpose", ".json"), {names[0]: people})


@PLAIN
@given(NAMES, some_people())
def test_own_json_is_lossless(names: list[str], people: People) -> None:
    assert_same(there_and_back({names[0]: people}, "humansd", ".json"), {names[0]: people})


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_plain_openpose_output(tmp_path: Path) -> None:
    points = [0.0] * 54
    points[:6] = [10, 20, 0.9, 11, 30, 0.8]
    person = {"person_id": [-1], "pose_keypoints_2d": points, "hand_left_keypoints_2d": [1, 2, 0.5]}
    path = write_json(tmp_path / "cat_keypoints.json", {"version": 1.3, "people": [person]})
    poses = read_poses(path, canvas=(64, 48))
    assert list(poses) == ["cat"]
    people = poses["cat"]
    assert people.skeleton == OPENPOSE18
    assert people.canvas == (64, 48)
    assert people.visibility[0].tolist() == [2, 2] + [0] * 16
    assert people.score[0, 1] == 0.8
    assert people.extras[0] == {"person_id": [-1], "hand_left_keypoints_2d": [1, 2, 0.5]}


def test_body_25_is_converted_with_a_warning(tmp_path: Path) -> None:
    points = [float(v) for j in range(25) for v in (j, 2 * j, 0.5)]
    frame = {"people": [{"pose_keypoints_2d": points}], "canvas_width": 100, "canvas_height": 90}
    path = write_json(tmp_path / "a.json", frame)
    with pytest.warns(PoseWarning, match=r"a\.json: BODY_25 joints are read as 18"):
        people = read_poses(path)["a"]
    assert people.xy[0, OPENPOSE18.index("right_hip"), 0] == 9  # BODY_25: 8 is the mid hip
    assert people.xy[0, OPENPOSE18.index("left_ankle"), 0] == 14
    assert people.xy[0, OPENPOSE18.index("left_ear"), 0] == 18
    assert people.extras[0]["body_25_rest"][:3] == [8, 16, 0.5]


def test_openpose_frames_and_folders(tmp_path: Path) -> None:
    frame = {"people": [], "canvas_width": 8, "canvas_height": 9}
    assert list(read_poses(write_json(tmp_path / "one.json", [frame]))) == ["one"]
    assert list(read_poses(write_json(tmp_path / "two.json", [frame, frame]))) == ["two_0000", "two_0001"]
    poses = {"b": standing(), "a": standing().hflip()}
    folder = tmp_path / "many"
    folder.mkdir()
    write_poses(folder, poses, "openpose")
    assert sorted(p.name for p in folder.iterdir()) == ["a.json", "b.json"]
    assert_same(read_poses(folder), dict(sorted(poses.items())))


def test_openpose_files_carry_a_neck(tmp_path: Path) -> None:
    write_poses(tmp_path / "x.json", {"x": standing()}, "openpose")
    person = json.loads((tmp_path / "x.json").read_text())["people"][0]
    assert len(person["pose_keypoints_2d"]) == 54
    assert person["pose_keypoints_2d"][3:6] == [50, 40, 1]


def humanart(keypoints: Any, more: dict[str, Any]) -> dict[str, Any]:
    image = {"id": 5, "file_name": "HumanArt/images/x/007.jpg", "width": 100, "height": 100}
    note = {"id": 9, "image_id": 5, "keypoints": keypoints, "area": 12.5, "self_contact": []}
    return {"images": [image | {"description": "sketch, a man"}], "annotations": [note | more]}


def test_humanart_key_points_may_be_text(tmp_path: Path) -> None:
    points = [float(v) for j in range(21) for v in (j, j + 1, 2)]
    as_list = read_poses(write_json(tmp_path / "a.json", humanart(points[:51], {"keypoints_21": points})))
    as_text = humanart(json.dumps(points[:51]), {"keypoints_21": json.dumps(points)})
    assert_same(read_poses(write_json(tmp_path / "b.json", as_text)), as_list)
    people = as_list["007"]
    assert people.skeleton == HUMANART21
    assert people.area[0] == 12.5
    assert people.extras[0] == {"id": 9, "self_contact": []}
    assert read_image_records(tmp_path / "a.json")["007"]["description"] == "sketch, a man"
    plain = read_poses(write_json(tmp_path / "c.json", humanart(json.dumps(points[:51]), {})))["007"]
    assert plain.skeleton == COCO17
    assert plain.equals(people.to_skeleton(COCO17))


def test_image_records_and_colliding_stems_survive(tmp_path: Path) -> None:
    poses = {"a/1": standing(), "b/1": standing().hflip(), "2": People.empty((5, 6))}
    records = {
        "a/1": {"id": 70, "file_name": "a/1.jpg", "license": 4},
        "b/1": {"id": 8, "file_name": "b/1.jpg"},
    }
    path = tmp_path / "all.json"
    write_poses(path, poses, "coco", images=records)
    assert_same(read_poses(path), poses)
    found = read_image_records(path)
    assert found["a/1"]["license"] == 4
    assert found["a/1"]["id"] == 70
    assert len({r["id"] for r in found.values()}) == 3


def test_coco_files_are_good_enough_for_pycocotools(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    people = People.of(standing().xy, (100, 200), extras=[{"id": 1}])
    write_poses(tmp_path / "c.json", {"x": people, "y": standing()}, "coco")
    loaded = coco.COCO(str(tmp_path / "c.json"))
    assert len(loaded.anns) == 2
    assert all(a["num_keypoints"] == 17 for a in loaded.anns.values())
    assert loaded.anns[1]["bbox"] == pytest.approx([25, 16, 50, 164])


def test_joints_outside_are_kept_with_a_warning(tmp_path: Path) -> None:
    moved = People.of(standing().xy + np.array([40, 0]), (100, 200))
    write_poses(tmp_path / "o.json", {"o": moved}, "coco")
    with pytest.warns(PoseWarning, match=r"o: 6 joints lie outside the canvas \(100, 200\); they are kept"):
        assert read_poses(tmp_path / "o.json")["o"].equals(moved)


def test_a_given_canvas_does_not_override_the_file(tmp_path: Path) -> None:
    write_poses(tmp_path / "o.json", {"o": standing()}, "openpose")
    with pytest.warns(PoseWarning, match="the file says 100x200; the given canvas 9x9 is not used"):
        assert read_poses(tmp_path / "o.json", canvas=(9, 9))["o"].canvas == (100, 200)


def test_what_this_package_writes_is_in_pixels_wherever_it_lies(tmp_path: Path) -> None:
    corner = People.of(standing().xy / [100, 200] * 0.7, (100, 200))
    for format in ("openpose", "coco"):
        assert_same(there_and_back({"n": corner}, format, ".json"), {"n": corner})


def published(path: Path, **change: Any) -> Path:
    points = np.column_stack([standing().xy[0], np.linspace(0, 1, 17)])
    entry = {"keypoints": points, "score": np.float32(0.5), "area": 77.0} | change
    np.savez(path, np.array([entry, entry], dtype=object))
    return path


def test_published_npz_is_converted_and_never_read(tmp_path: Path) -> None:
    path = published(tmp_path / "p.npz")
    people = convert_published_npz(path, (100, 200))
    assert people.n == 2
    assert people.area.tolist() == [77, 77]
    assert people.extras[0] == {"score": 0.5}
    np.testing.assert_array_equal(people.xy[1], standing().xy[0])
    assert people.visibility[0].tolist() == [0] + [2] * 16
    nobody = tmp_path / "n.npz"
    np.savez(nobody, np.array([], dtype=object))
    assert convert_published_npz(nobody, (5, 5)).n == 0
    alone = tmp_path / "one.npz"
    np.savez(alone, np.array([{"keypoints": np.zeros((17, 3), np.float32, order="F")}], dtype=object))
    assert np.isnan(convert_published_npz(alone, (5, 5)).area[0])


def test_published_scores_above_one_are_clipped_with_a_warning(tmp_path: Path) -> None:
    path = published(tmp_path / "p.npz", keypoints=np.full((17, 3), 1.25))
    with pytest.warns(PoseWarning, match=r"p\.npz: scores from 1\.25 to 1\.25 are clipped"):
        assert convert_published_npz(path, (9, 9)).score.max() == 1


@pytest.mark.skipif(not COCO_FILE.exists(), reason="no COCO sample in ../shared/data")
@pytest.mark.parametrize(("format", "suffix"), [("coco", ".json"), ("npz", ".npz"), ("humanart", ".json")])
def test_real_coco(tmp_path: Path, format: str, suffix: str) -> None:
    poses = read_poses(COCO_FILE)
    raw = json.loads(COCO_FILE.read_text())
    assert len(poses) == len(raw["images"])
    assert sum(p.n for p in poses.values()) == len(raw["annotations"])
    assert sum(int(p.labelled.sum()) for p in poses.values()) == sum(a["num_keypoints"] for a in raw["annotations"])
    path = tmp_path / f"again{suffix}"
    write_poses(path, poses, format, images=read_image_records(COCO_FILE))
    assert_same(read_poses(path), poses)
    if format == "coco":
        again = json.loads(path.read_text())
        for old, new in zip(raw["annotations"][:1], again["annotations"][:1], strict=True):
            assert old.keys() <= new.keys() | {"num_keypoints"}
        by_id = {a["id"]: a for a in again["annotations"]}
        for old in raw["annotations"]:
            new = {key: by_id[old["id"]][key] for key in old}
            assert new == old


@pytest.mark.skipif(not HUMANART_FILE.exists(), reason="no Human-Art sample in ../shared/data")
def test_real_humanart(tmp_path: Path) -> None:
    poses = read_poses(HUMANART_FILE)
    raw = json.loads(HUMANART_FILE.read_text())
    assert {name: p.n for name, p in poses.items()} == {
        "000000001648": 1,
        "000000005603": 1,
        "000000000590": 2,
    }
    assert all(p.skeleton == HUMANART21 for p in poses.values())
    path = tmp_path / "again.json"
    write_poses(path, poses, "humanart", images=read_image_records(HUMANART_FILE))
    assert_same(read_poses(path), poses)
    again = json.loads(path.read_text())
    assert again["images"] == raw["images"]
    key = lambda a: a["id"]  # noqa: E731
    assert sorted(again["annotations"], key=key) == sorted(raw["annotations"], key=key)
