"""What makes a reading of a drawing unsure, gate by gate, on limbs put together by hand: who is kept and who is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from humansd.pose import COCO17, People, PoseWarning
from humansd.pose.drawn import read_drawing
from humansd.pose.drawn_check import sure_joints
from humansd.pose.drawn_limbs import Found, Limb
from humansd.pose.render import draw_people
from pose_mutants import CANVAS, TRUTH

BODY = np.array([TRUTH[joint] for joint in COCO17.joints], float)
RADIUS = 3.0
KNEE, ANKLE, HIP = (COCO17.index(f"left_{part}") for part in ("knee", "ankle", "hip"))
SHIN = COCO17.limbs.index((KNEE, ANKLE))
ALL = range(len(COCO17.limbs))
RIGHT = [k for k, pair in enumerate(COCO17.limbs) if all(j >= 6 and j % 2 == 0 for j in pair)]
LEFT = [k for k, pair in enumerate(COCO17.limbs) if all(j >= 5 and j % 2 == 1 for j in pair)]


def limb(kind: int, xy: NDArray[np.float64]) -> Limb:
    ends = xy[list(COCO17.limbs[kind])]
    pixels = round(2 * RADIUS * float(np.hypot(*(ends[1] - ends[0]))))
    return Limb(kind, ends, RADIUS, list(COCO17.limbs[kind]), pixels)


def found(*people: tuple[NDArray[np.float64], Iterable[int]]) -> tuple[Found, NDArray[np.int64]]:
    """Bodies of these joints with these limbs, and the map of the limbs' colors."""
    colors = np.full(CANVAS[::-1], -1, np.int64)
    bodies, seen = [], np.zeros((len(people), len(COCO17)), np.uint8)
    for i, (xy, kinds) in enumerate(people):
        bodies.append([limb(kind, xy) for kind in kinds])
        for one in bodies[-1]:
            line(colors, one.ends, one.kind)
            seen[i, one.joints] = 2
    xy = np.stack([xy for xy, _ in people])
    return Found(xy, seen, RADIUS, bodies, [one for body in bodies for one in body], {}), colors


def line(colors: NDArray[np.int64], ends: Sequence[Sequence[float]] | NDArray[np.float64], color: int) -> None:
    patch = np.zeros(colors.shape, np.uint8)
    start, end = (tuple(int(v) for v in np.rint(point)) for point in ends)
    cv2.line(patch, start, end, 1, round(2 * RADIUS))
    colors[patch > 0] = color


def read(what: tuple[Found, NDArray[np.int64]]) -> list[set[str]]:
    """The joints of each body that are believed."""
    one, colors = what
    kept = sure_joints(one, colors, colors >= 0, COCO17)
    return [{COCO17.joints[j] for j in np.flatnonzero(row)} for row in kept]


def test_a_clear_person_is_believed() -> None:
    assert read(found((BODY, ALL))) == [set(COCO17.joints)]


def test_a_color_that_goes_on_behind_the_joint_makes_it_doubtful() -> None:
    one, colors = found((BODY, ALL))
    line(colors, [BODY[ANKLE], BODY[ANKLE] + (0, 20)], SHIN)
    assert read((one, colors)) == [set(COCO17.joints) - {"left_ankle"}]


def test_a_limb_whose_end_is_covered_says_not_where_it_ends() -> None:
    one, colors = found((BODY, ALL))
    line(colors, [BODY[ANKLE] - (0, 12), BODY[ANKLE] + (0, 6)], LEFT[0])
    assert read((one, colors)) == [set(COCO17.joints) - {"left_ankle"}]


@pytest.mark.parametrize(("radius", "pixels"), [(2 * RADIUS, 960), (0.5 * RADIUS, 240), (RADIUS, 100)])
def test_what_is_no_bar_of_the_usual_width_is_no_limb(radius: float, pixels: int) -> None:
    """Two limbs of one color that cross, the rim of another limb, two in a row."""
    one, colors = found((BODY, ALL))
    shin = next(part for part in one.limbs if part.kind == SHIN)
    shin.radius, shin.pixels = radius, pixels
    assert read((one, colors)) == [set(COCO17.joints) - {"left_ankle"}]


def test_a_joint_where_another_person_s_limb_ends_as_near_breaks_the_chain() -> None:
    shift = BODY[KNEE] + (12, 0) - BODY[KNEE]
    one, colors = found((BODY, ALL), (BODY + shift, [SHIN, SHIN - 2]))
    kept = read((one, colors))
    assert not {"left_knee", "left_ankle"} & kept[0]
    assert {"nose", "left_shoulder", "right_ankle"} <= kept[0]
    assert kept[1] == set()
    speck = one.limbs[-2]
    speck.pixels = 20  # noise in the color of a limb
    one.limbs, one.bodies = [*one.limbs[: len(ALL)], speck], one.bodies[:1]
    one.xy, one.seen = one.xy[:1], one.seen[:1]
    assert "left_knee" in read((one, colors))[0]


def test_a_part_that_may_be_a_larger_person_s_is_left_out() -> None:
    whole = [k for k in ALL if k not in RIGHT and 6 not in COCO17.limbs[k]]
    other = BODY / 1.2 + (240, 40)
    assert read(found((BODY - (150, 0), whole), (other, RIGHT)))[1] == set()
    clash = read(found((BODY - (150, 0), ALL), (other, RIGHT)))[1]
    assert {"right_elbow", "right_wrist", "right_knee"} <= clash


def test_sides_are_one_body_where_they_are_one_torso() -> None:
    """In a crowd; alone they are one body anyway."""
    other = BODY / 1.5 + (300, 20)
    one, colors = found((BODY - (150, 0), [*LEFT, *RIGHT]), (other, ALL))
    kept = read((one, colors))
    assert {"left_ankle", "right_ankle", "left_wrist", "right_wrist"} <= kept[0]
    far = BODY - (150, 0)
    far[6:17:2] -= (0, 130)  # the right side is much higher: somebody else's
    kept = read(found((far, [*LEFT, *RIGHT]), (other, ALL)))
    assert len({name.split("_")[0] for name in kept[0]}) == 1


def test_people_over_each_other_are_not_mixed() -> None:
    """Three people of one pose, a few pixels apart: no joint is far from where one of them has it."""
    true = BODY + np.array([[[0, 0]], [[9, 4]], [[150, 10]]])
    with pytest.warns(PoseWarning, match="cannot be read surely"):
        people = read_drawing(draw_people(People.of(true, CANVAS)))
    assert people is not None
    for xy, seen in zip(people.to_skeleton(COCO17).xy, people.to_skeleton(COCO17).labelled, strict=True):
        away = np.hypot(*(true - xy).transpose(2, 0, 1))[:, seen]
        assert away.max(axis=1).min() <= 6  # all of them are the same person's
