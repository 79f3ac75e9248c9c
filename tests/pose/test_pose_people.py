"""People: geometry, immutability, validation, skeletons."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humansd.pose import COCO17, HUMANART21, OPENPOSE18, SKELETONS, People, PoseError
from humansd.pose.people import fit_box
from pose_cases import some_people, standing

SIDES = st.integers(1, 2000)


@settings(max_examples=40, deadline=None)
@given(some_people(), SIDES, SIDES)
def test_resize_there_and_back(people: People, width: int, height: int) -> None:
    back = people.resize(width, height).resize(*people.canvas)
    assert back.canvas == people.canvas
    np.testing.assert_allclose(back.xy, people.xy, rtol=0, atol=1e-6)
    np.testing.assert_allclose(back.area, people.area, rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(some_people())
def test_mirror_twice_is_the_same(people: People) -> None:
    assert people.hflip().hflip().equals(people, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(some_people())
def test_own_json_is_lossless(people: People) -> None:
    assert People.from_json(people.to_json()).equals(people)


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES)
def test_fit_keeps_the_aspect(w: int, h: int, width: int, height: int) -> None:
    new_w, new_h, left, top = fit_box((w, h), (width, height))
    assert 0 <= left <= width - new_w
    assert 0 <= top <= height - new_h
    assert new_w == width or new_h == height
    scale = min(width / w, height / h)
    assert abs(new_w - max(1, w * scale)) <= 0.5
    assert abs(new_h - max(1, h * scale)) <= 0.5


def test_resize_known_answer() -> None:
    people = People.of(np.full((1, 17, 2), [0.0, 9.0]), (10, 10), area=[8.0], extras=[{"bbox": [0, 0, 4, 2]}])
    large = people.resize(20, 40)
    np.testing.assert_allclose(large.xy[0, 0], [0.5, 37.5])
    assert large.area[0] == 64
    assert large.extras[0]["bbox"] == [0.5, 1.5, 8, 8]


def test_fit_known_answer() -> None:
    # 100 x 50 into 60 x 60: 60 x 30, 15 rows of padding above.
    people = People.of(np.full((1, 17, 2), [99.5, -0.5]), (100, 50)).fit(60, 60)
    assert people.canvas == (60, 60)
    np.testing.assert_allclose(people.xy[0, 0], [59.5, 14.5])


def test_mirror_known_answer() -> None:
    flipped = standing().hflip()
    left, right = COCO17.index("left_wrist"), COCO17.index("right_wrist")
    assert flipped.xy[0, left, 0] == 99 - standing().xy[0, right, 0]
    assert flipped.xy[0, left, 0] > flipped.xy[0, right, 0]  # the mirrored person's left hand is still at larger x


def test_mirror_swaps_hands_and_renumbers_the_face() -> None:
    face = [float(v) for i in range(70) for v in (i, 1, 1)]
    extras = {"hand_left_keypoints_2d": [10, 5, 0.5, 0, 0, 0], "face_keypoints_2d": face}
    people = People.of(np.zeros((1, 17, 2)), (100, 50), extras=[extras])
    flipped = people.hflip().extras[0]
    assert flipped["hand_right_keypoints_2d"] == [89, 5, 0.5, 0, 0, 0]
    assert "hand_left_keypoints_2d" not in flipped
    assert flipped["face_keypoints_2d"][:3] == [99 - 16, 1, 1]  # jaw 0 takes the place of jaw 16
    assert flipped["face_keypoints_2d"][36 * 3] == 99 - 45
    assert people.hflip().hflip().equals(people)


def test_crop_drops_and_moves() -> None:
    people = standing().crop(0, 100, 100, 100)
    assert people.canvas == (100, 100)
    assert not people.labelled[0, :9].any()
    assert people.labelled[0, 11:].all()
    np.testing.assert_array_equal(people.xy[0, 0], [0, 0])
    np.testing.assert_allclose(people.xy[0, 15], [62, 80])


def test_edge_of_the_canvas_counts_as_inside() -> None:
    xy = np.zeros((1, 17, 2))
    xy[0, :4] = [[-0.5, 0], [9.5, 9.5], [9.51, 5], [5, -0.51]]
    assert People.of(xy, (10, 10)).drop_outside().labelled[0, :4].tolist() == [True, True, False, False]


def test_absent_joints_never_move() -> None:
    seen = np.zeros((1, 17), int)
    people = People.of(np.zeros((1, 17, 2)), (10, 10), visibility=seen)
    for moved in (people.resize(20, 30), people.hflip(), people.fit(30, 7), people.pad(1, 2, 3, 4)):
        assert not moved.xy.any()


def test_nobody_goes_through_everything() -> None:
    nobody = People.empty((30, 20))
    moved = nobody.resize(10, 10).fit(5, 9).crop(1, 1, 3, 3).pad(1, 1, 1, 1).hflip().drop_outside()
    assert moved.select([]).with_joints().to_skeleton(OPENPOSE18).n == 0
    assert moved.canvas == (5, 5)
    assert moved.boxes().shape == (0, 4)


def test_people_are_immutable() -> None:
    people = standing()
    with pytest.raises(ValueError, match="read-only"):
        people.xy[0, 0, 0] = 1
    source = np.zeros((1, 17, 2))
    copy = People.of(source, (10, 10))
    source[:] = 5
    assert not copy.xy.any()


def test_select_and_with_joints() -> None:
    seen = np.array([[0] * 17, [2] * 17, [1] * 17])
    people = People.of(np.zeros((3, 17, 2)), (10, 10), visibility=seen, area=[1, 2, 3])
    assert people.with_joints().area.tolist() == [2, 3]
    assert people.select([2, 0]).area.tolist() == [3, 1]
    assert people.select(np.array([False, True, False])).area.tolist() == [2]


def test_area_falls_back_to_the_box() -> None:
    people = standing()
    expected = (0.75 - 0.25) * 100 * (0.9 - 0.08) * 200
    np.testing.assert_allclose(people.areas(), [expected])
    assert np.isnan(People.of(np.zeros((1, 17, 2)), (9, 9), visibility=np.zeros((1, 17))).areas()).all()


def test_neck_is_the_middle_of_both_shoulders() -> None:
    body = standing().to_skeleton(OPENPOSE18)
    np.testing.assert_allclose(body.xy[0, 1], [50, 40])
    assert body.to_skeleton(COCO17).equals(standing())
    seen = np.full((1, 17), 2)
    seen[0, 5] = 0
    one_shoulder = People.of(standing().xy, (100, 200), visibility=seen).to_skeleton(OPENPOSE18)
    assert one_shoulder.visibility[0, 1] == 0
    assert not one_shoulder.xy[0, 1].any()


def test_fingers_go_and_come_back_absent() -> None:
    wide = standing().to_skeleton(HUMANART21)
    assert wide.visibility[0, 17:].tolist() == [0] * 4
    assert wide.to_skeleton(COCO17).equals(standing())


def test_skeleton_tables() -> None:
    assert {n: (len(s), len(s.limbs)) for n, s in SKELETONS.items()} == {
        "coco17": (17, 16),
        "openpose18": (18, 17),
        "humanart21": (21, 20),
    }
    assert COCO17.limb_colors[0] == (219, 95, 87)
    assert OPENPOSE18.limb_colors[1] == (255, 85, 0)
    for skeleton in SKELETONS.values():
        order = np.array(skeleton.flip_order)
        assert (order[order] == np.arange(len(skeleton))).all()
        mirrored = [skeleton.joints[i].replace("left", "L").replace("right", "left") for i in order]
        assert [m.replace("L", "right") for m in mirrored] == list(skeleton.joints)
        assert len(set(skeleton.limb_colors)) == len(skeleton.limbs)


ONE = (np.zeros((1, 17, 2)), np.ones((1, 17)), np.full((1, 17), 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"xy": np.zeros((1, 18, 2))},
            r"xy: the shape is \(1, 18, 2\).*needs \(people, 17, 2\).*name the skel",
        ),
        ({"xy": np.full((1, 17, 2), np.nan)}, r"xy: holds NaN or infinity\. Mark a missing joint"),
        ({"xy": [["a"]]}, r"xy: must hold numbers"),
        (
            {"score": np.full((1, 17), 1.1)},
            r"score: scores go from 1\.1 to 1\.1\. Scale the scores to 0\.\.1",
        ),
        ({"score": np.ones((2, 17))}, r"score: the shape is \(2, 17\), expected \(1, 17\)"),
        ({"visibility": np.full((1, 17), 3)}, r"visibility: holds a value that is not 0, 1 or 2\. Use 0 for"),
        ({"visibility": np.full((1, 17), -1)}, r"visibility: holds a value"),
        ({"canvas": (0, 5)}, r"canvas: 0 is not an image side\. Give the image's width"),
        ({"canvas": (5.5, 5)}, r"canvas: 5\.5 is not"),
        ({"canvas": None}, r"canvas: None is not \(width, height\)"),
        ({"area": [-1.0]}, r"area: must be 1 numbers of 0 or more\. Use NaN"),
        ({"extras": ({}, {})}, r"extras: needs one dict for each of 1 people"),
    ],
)
def test_bad_people_are_refused(change: dict[str, object], message: str) -> None:
    values = {"xy": ONE[0], "score": ONE[1], "visibility": ONE[2], "canvas": (10, 10)} | change
    with pytest.raises(PoseError, match=message):
        People(**values)  # type: ignore[arg-type]


def test_too_many_people_are_refused() -> None:
    with pytest.raises(PoseError, match="1001 people in one image, the limit is 1000"):
        People.of(np.zeros((1001, 17, 2)), (10, 10))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version: version 2 is not known"),
        ({"skeleton": "dog"}, "skeleton: skeleton 'dog' is not known. Use one of coco17"),
        ({"people": {}}, "people: must be a list"),
        ({"people": [{"xy": []}]}, r"people\[0\]: needs exactly the keys area, extras"),
        ({"more": 1}, "pose: needs exactly the keys"),
    ],
)
def test_bad_json_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(PoseError, match=message):
        People.from_json(standing().to_json() | change)


def test_errors_survive_pickling() -> None:
    error = PoseError("is wrong", field="x", file="a.json", remedy="Mend it.")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert str(copy) == "a.json: x: is wrong. Mend it."
    assert copy.remedy == "Mend it."
