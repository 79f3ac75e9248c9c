"""Pose files as other tools write them: every sample, and hundreds of changed ones, give the people they hold."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from humansd.pose import COCO17, OPENPOSE18, People, PoseError, PoseWarning
from humansd.pose.formats import read_poses
from humansd.pose.joints import JOINT_SETS, canonical
from pose_mutants import CANVAS, TRUTH, mutant
from shared_data import DATA

SAMPLES = DATA / "pose-inputs"
MUTANTS = 400
NEAR = 1.5  # px
needs_samples = pytest.mark.skipif(not SAMPLES.exists(), reason="no pose samples in ../shared/data")


def quietly(path: Path, **options: Any) -> tuple[dict[str, People], list[str]]:
    """The poses of a file, and the notes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        poses = read_poses(path, **options)
    return poses, [str(w.message) for w in caught]


def away(people: People, i: int = 0) -> dict[str, float]:
    """Joint -> its distance from the truth, of person i."""
    body = people.to_skeleton(COCO17)
    return {
        name: float(np.hypot(*(body.xy[i, j] - TRUTH[name])))
        for j, name in enumerate(COCO17.joints)
        if body.labelled[i, j]
    }


@pytest.mark.parametrize("block", range(4))
def test_changed_files_are_read_right_or_refused_with_a_remedy(tmp_path: Path, block: int) -> None:
    read, refused = 0, []
    for seed in range(block * MUTANTS // 4, (block + 1) * MUTANTS // 4):
        path = mutant(seed, tmp_path)
        try:
            poses, _ = quietly(path, canvas=CANVAS)
        except PoseError as error:
            refused.append(error)
            continue
        (people,) = poses.values()
        assert people.canvas == CANVAS
        assert people.n == 1, path.name
        distances = away(people)
        assert len(distances) >= 6, path.name
        assert max(distances.values()) <= NEAR, (path.name, distances)
        read += 1
    assert read >= 0.97 * MUTANTS / 4
    assert all(error.remedy for error in refused)


@needs_samples
@pytest.mark.parametrize(
    "name",
    sorted(p.name for p in SAMPLES.glob("*") if p.suffix in (".json", ".txt") and p.name != "truth.json")
    if SAMPLES.exists()
    else [],
)
def test_samples_give_the_person_they_hold(name: str) -> None:
    options: dict[str, Any] = {"joints": "h36m17"} if "h36m" in name else {}
    poses, _ = quietly(SAMPLES / name, canvas=CANVAS, **options)
    people = next(iter(poses.values()))
    distances = away(people)
    if name == "mediapipe_landmarks.json":  # all its landmarks lie in one place
        np.testing.assert_allclose(people.xy[0], np.full((17, 2), [320, 90]))
        return
    moved = distances.pop("right_ankle") if "foot_outside" in name else 0.0
    assert moved == pytest.approx(94.3, abs=0.1) or not moved
    assert len(distances) >= 12
    assert max(distances.values()) <= NEAR


@needs_samples
def test_frames_of_a_video_with_nobody_are_empty_images() -> None:
    poses, notes = quietly(SAMPLES / "op_video_folder", canvas=CANVAS)
    assert [people.n for people in poses.values()] == [1, 0, 1]
    assert sum("BODY_25" in note for note in notes) == 1


@needs_samples
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("op_score_gt1.json", r"scores from 0\.9 to 1\.40701 are clipped"),
        ("op_comfy_openpose_normalised.json", r"read as 0\.\.1: shares of the canvas.*--units pixels"),
        ("op_body_null_hand_only.json", r"1 entry that cannot be used is left out, 1 are read; .*people\[1\]"),
        ("coco_some_without_keypoints.json", r"1 entry that cannot be used is left out, 1 are read"),
        ("coco_h36m17_unnamed.json", r"names of the joints are missing; the 17 .* coco17 .*--joints"),
        ("op_coco17_points.json", r"names of the joints are missing; the 17 .* coco17"),
    ],
)
def test_what_was_decided_is_said_once(name: str, text: str) -> None:
    _, notes = quietly(SAMPLES / name, canvas=CANVAS)
    with pytest.warns(PoseWarning, match=text):
        read_poses(SAMPLES / name, canvas=CANVAS)
    assert len(notes) == len(set(notes))


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def body(order: list[str], score: float = 1.0) -> list[float]:
    return [v for name in order for v in (*TRUTH.get(name, (320, 150)), score)]


def test_units_are_decided_by_most_points_and_can_be_said(tmp_path: Path) -> None:
    xy = np.array(list(TRUTH.values()), float)
    for name, shown in (("shares", xy / CANVAS), ("signed", 2 * xy / CANVAS - 1), ("percent", 100 * xy / CANVAS)):
        value = {"people": [{"pose_keypoints_2d": shown.tolist()}], "canvas_width": 640, "canvas_height": 480}
        path = write(tmp_path / f"{name}.json", value)
        for options in ({}, {"units": name}):
            poses, _ = quietly(path, **options)
            np.testing.assert_allclose(poses[name].to_skeleton(COCO17).xy[0], xy, atol=1e-9)
        poses, notes = quietly(path, units="pixels")
        np.testing.assert_allclose(poses[name].to_skeleton(COCO17).xy[0], shown, atol=1e-9)
        assert not [note for note in notes if "coordinates are read" in note]
    with pytest.raises(PoseError, match=r"units: is 'inches'. Choose one of pixels, shares, signed, percent"):
        read_poses(path, units="inches")


def test_a_small_person_in_the_corner_stays_in_pixels(tmp_path: Path) -> None:
    small = [v for x, y in TRUTH.values() for v in (x / 10, y / 10, 2)]
    value = {"images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}]}
    value |= {"annotations": [{"image_id": 1, "keypoints": small}]}
    poses, _ = quietly(write(tmp_path / "a.json", value))
    np.testing.assert_allclose(poses["a"].xy[0], np.array(list(TRUTH.values())) / 10)


@pytest.mark.parametrize(
    "name", ["mpii16", "lsp14", "aic14", "crowdpose14", "halpe26", "coco23", "body25", "humanart21"]
)
def test_sets_without_names_are_read_where_they_are_named(tmp_path: Path, name: str) -> None:
    order = JOINT_SETS[name].names
    entry = {"image_id": "a.jpg", "keypoints": body(list(order)), "score": 0.5}
    path = write(tmp_path / "r.json", [entry])
    poses, _ = quietly(path, canvas=CANVAS, joints=name)
    assert max(away(poses["a"]).values()) == 0
    assert len(away(poses["a"])) == len(set(order) & set(TRUTH))
    if len(order) in (14, 16, 21, 25):
        with pytest.raises(PoseError, match=rf"one of .*{name}.*--joints"):
            read_poses(path, canvas=CANVAS)


def test_joint_sets_are_told_by_their_count_and_name() -> None:
    with pytest.raises(PoseError, match=r"joints: is 'smpl'. Choose one of coco17"):
        read_poses(__file__, joints="smpl")
    for joints in JOINT_SETS.values():
        assert len(set(joints.names)) == len(joints)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("R_Shoulder", "right_shoulder"), ("right shoulder", "right_shoulder"), ("RShoulder", "right_shoulder"),
        ("shoulderRight", "right_shoulder"), ("rsho", "right_shoulder"), ("Shoulder.R", "right_shoulder"),
        ("leftEye", "left_eye"), ("LEar", "left_ear"), ("rear", "right_ear"), ("eye_l", "left_eye"),
        ("05 left-hip", "left_hip"), ("kp_lknee", "left_knee"), ("NOSE", "nose"), ("MidHip", "mid_hip"),
        ("LBigToe", "left_big_toe"), ("upper neck", "upper_neck"), ("tail", ""), ("shoulder", ""), ("", ""),
        ("left right hip", ""), ("p17", ""), ("new-point-3", ""),
    ],
)  # fmt: skip
def test_names_in_any_spelling(text: str, name: str) -> None:
    assert canonical(text) == name


def test_hands_feet_face_and_boxes_move_with_their_person(tmp_path: Path) -> None:
    hand = [v for i in range(21) for v in (400 + i, 270, 0.5)]
    feet = [v for i in range(6) for v in (10 * i, 450, 1.0)]
    note = {
        "image_id": 1, "category_id": 1, "keypoints": [*body(list(TRUTH)), 320, 55, 1], "bbox": [215, 80, 205, 360],
        "lefthand_kpts": hand, "foot_kpts": feet, "lefthand_box": [400, 260, 20, 20], "face_box": [0.0, 0.0, 0.0, 0.0],
    }  # fmt: skip
    image = {"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}
    value = {"images": [image], "annotations": [note], "categories": [{"id": 1, "keypoints": [*TRUTH, "head_top"]}]}
    people = read_poses(write(tmp_path / "a.json", value))["a"]
    half = people.resize(320, 240).extras[0]
    assert half["lefthand_kpts"][:3] == [199.75, 134.75, 0.5]
    assert half["foot_kpts"][3:6] == [4.75, 224.75, 1.0]
    assert half["lefthand_box"] == [199.75, 129.75, 10, 10]
    assert half["face_box"] == [0.0, 0.0, 0.0, 0.0]
    assert half["other_joints"]["head_top"] == [159.75, 27.25, 1.0]
    other = people.hflip().extras[0]
    assert other["righthand_kpts"][:2] == [639 - 400, 270]
    assert other["righthand_box"] == [639 - 420, 260, 20, 20]
    assert other["foot_kpts"][:2] == [639 - 30, 450]  # left and right foot have traded places
    assert people.hflip().hflip().extras == people.extras


def test_the_rest_of_body_25_moves_too(tmp_path: Path) -> None:
    names = list(JOINT_SETS["body25"].names)
    frame = {"people": [{"pose_keypoints_2d": body(names)}], "canvas_width": 640, "canvas_height": 480}
    poses, _ = quietly(write(tmp_path / "a.json", frame))
    assert poses["a"].skeleton == OPENPOSE18
    assert poses["a"].resize(1280, 960).extras[0]["body_25_rest"][:3] == [640.5, 300.5, 1.0]


def test_units_change_hands_with_the_body(tmp_path: Path) -> None:
    shares = [v for x, y in TRUTH.values() for v in (x / 640, y / 480, 1.0)]
    hand = [v for _ in range(21) for v in (0.5, 0.25, 1.0)]
    person = {"pose_keypoints_2d": shares, "hand_left_keypoints_2d": hand, "face_keypoints_2d": None}
    value = {"people": [person], "canvas_width": 640, "canvas_height": 480}
    poses, _ = quietly(write(tmp_path / "a.json", value))
    assert poses["a"].extras[0]["hand_left_keypoints_2d"][:3] == [320, 120, 1.0]


def test_a_folder_leaves_out_what_is_broken_and_says_so_once(tmp_path: Path) -> None:
    frame = {"people": [{"pose_keypoints_2d": body(list(JOINT_SETS["openpose18"].names))}]}
    for name in ("a", "b"):
        write(tmp_path / f"{name}_keypoints.json", frame)
    (tmp_path / "c.json").write_text("{")
    (tmp_path / "d.json").write_text('{"settings": 3}')
    poses, notes = quietly(tmp_path, canvas=CANVAS)
    assert sorted(poses) == ["a", "b"]
    assert len(notes) == 1
    assert "2 of 4 files cannot be used and are left out; the first: " in notes[0]
    for name in ("a", "b"):
        (tmp_path / f"{name}_keypoints.json").unlink()
    with pytest.raises(PoseError, match=r"c\.json: .*is not valid JSON"):
        read_poses(tmp_path, canvas=CANVAS)


def test_the_image_beside_says_how_large_the_canvas_is(tmp_path: Path) -> None:
    import cv2

    for folder, file in (("", "a.png"), ("images", "b.jpg")):
        (tmp_path / folder).mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / folder / file), np.zeros((480, 640, 3), np.uint8))
    entries = [{"image_id": f, "keypoints": body(list(TRUTH)), "score": 1} for f in ("a.png", "b.jpg")]
    poses, _ = quietly(write(tmp_path / "r.json", entries))
    assert {name: people.canvas for name, people in poses.items()} == {"a": CANVAS, "b": CANVAS}
    (tmp_path / "labels").mkdir()
    shares = " ".join(f"{x / 640} {y / 480} 2" for x, y in TRUTH.values())
    (tmp_path / "labels" / "b.txt").write_text(f"0 .5 .5 .3 .8 {shares}\n")
    poses, _ = quietly(tmp_path / "labels")
    assert max(away(poses["b"]).values()) < 1e-9


def test_captions_and_class_lists_are_no_label_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("photo, a woman")
    (tmp_path / "classes.txt").write_text("0\n1\n")
    with pytest.raises(PoseError, match=r"holds no \.json or \.npz file"):
        read_poses(tmp_path)


def test_two_people_of_an_annotation_tool_stay_two(tmp_path: Path) -> None:
    shapes = [
        {"label": name, "points": [[x + shift, y]], "group_id": group, "shape_type": "point"}
        for name, (x, y) in TRUTH.items()
        for group, shift in ((1, 0), (2, 100))
    ]
    value = {"shapes": shapes, "imagePath": "a.jpg", "imageWidth": 640, "imageHeight": 480}
    poses, _ = quietly(write(tmp_path / "a.json", value))
    assert poses["a"].n == 2
    assert poses["a"].xy[1, 0].tolist() == [420, 90]
    by_turns = [shape | {"group_id": None} for group in (1, 2) for shape in shapes if shape["group_id"] == group]
    poses, notes = quietly(write(tmp_path / "b.json", value | {"shapes": by_turns}))
    assert poses["b"].n == 2
    assert "each time the next person begins" in notes[0]


def test_entities_in_xml_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text('<!DOCTYPE a [<!ENTITY b "cc">]><annotations><image name="&b;"/></annotations>')
    with pytest.raises(PoseError, match="declares entities"):
        read_poses(path)


def test_a_large_coco_file_is_read_entry_by_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480, "license": 3} for i in range(3)]
    outline = {"segmentation": [[1.5, 2, 3, 4]], "area": 12.5, "iscrowd": 0, "bbox": [1, 2, 3, 4], "category_id": 1}
    notes = [
        {"id": i, "image_id": i % 3, "keypoints": [v for n in TRUTH for v in (*TRUTH[n], i % 3)]} | outline
        for i in range(5)
    ]
    notes.append({"id": 9, "image_id": 0, "category_id": 1})
    category = {"id": 1, "name": "person", "keypoints": list(TRUTH)}
    value = {"info": {"year": 2017}, "images": images, "annotations": notes, "categories": [category]}
    path = write(tmp_path / "a.json", value)
    whole, _ = quietly(path)
    monkeypatch.setattr("humansd.pose.large.MAX_FILE_BYTES", 100)
    slim, said = quietly(path)
    assert any("outlines (segmentation) of this large file are left out" in note for note in said)
    assert any("1 entry that cannot be used is left out, 5 are read" in note for note in said)
    for name, people in whole.items():
        np.testing.assert_array_equal(slim[name].xy, people.xy)
        np.testing.assert_array_equal(slim[name].visibility, people.visibility)
        assert slim[name].extras[0] == {k: v for k, v in people.extras[0].items() if k != "segmentation"}
    path.write_text(path.read_text()[:-40])
    with pytest.raises(PoseError, match=r"a\.json: is not valid JSON"):
        read_poses(path)


def test_the_tables_name_every_format_and_joint_set(capsys: pytest.CaptureFixture[str]) -> None:
    from humansd.cli import main
    from humansd.pose.formats import READ_FORMATS

    assert main(["pose", "formats"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = {line.split()[0] for line in lines if line.strip()}
    assert set(READ_FORMATS) <= first
    assert set(JOINT_SETS) <= first
