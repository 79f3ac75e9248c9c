"""Joints out of a drawn OpenPose skeleton, as ControlNet's clients send it: the colors say which joint is where."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from humansd.pose.people import People
from humansd.pose.skeleton import OPENPOSE18

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
_NEAR = 45  # of 255, for a joint's color; neighbors in the palette differ by 85
_SAMPLES = np.linspace(0.2, 0.8, 13)
_MOST_CANDIDATES = 60  # of one joint
_LEAST_JOINTS = 4
_LEAST_LINE = 0.6  # of the samples between two joints have the limb's hue


def read_drawing(image: Pixels) -> People:
    """The people of a drawing, uint8 (H, W, 3) on black, on its canvas; nobody where it shows no joints.

    Discs of a joint's color are its candidates. Two of them belong together where the line between them has the color
    of their limb.
    """
    found = _candidates(image)
    people: list[dict[int, int]] = []
    for (a, b), color in zip(OPENPOSE18.limbs, OPENPOSE18.limb_colors, strict=True):
        links = [
            (_line(image, found[a][i], found[b][j], color), i, j)
            for i, j in product(range(len(found[a])), range(len(found[b])))
        ]
        for score, i, j in sorted(links, reverse=True):
            if score >= _LEAST_LINE:
                _join(people, a, i, b, j)
    people = [person for person in _gathered(people, found) if len(person) >= _LEAST_JOINTS]
    n, k = len(people), len(OPENPOSE18)
    xy, seen = np.zeros((n, k, 2)), np.zeros((n, k), np.uint8)
    for row, person in enumerate(people):
        for joint, index in person.items():
            xy[row, joint], seen[row, joint] = found[joint][index], 2
    canvas = (image.shape[1], image.shape[0])
    return People.of(xy, canvas, visibility=seen, skeleton=OPENPOSE18) if n else People.empty(canvas, OPENPOSE18)


@dataclass(frozen=True, eq=False)
class _Spot:
    """A spot of a joint's color. center: (x, y) px; radius: px. pure: how many pixels, a near color less."""

    joint: int
    center: Floats
    radius: float
    pure: float


def _candidates(image: Pixels) -> list[list[Floats]]:
    """Centers (x, y) of the discs of each joint.

    Where limbs are drawn over discs with opacity, their mixture may have a third joint's color; of two spots in one
    place the one with more pure pixels is the disc.
    """
    spots = [spot for joint, color in enumerate(OPENPOSE18.joint_colors) for spot in _spots(image, joint, color)]
    found: list[list[Floats]] = [[] for _ in OPENPOSE18.joints]
    kept: list[_Spot] = []
    for spot in sorted(spots, key=lambda one: -one.pure):
        if all(np.linalg.norm(spot.center - other.center) > other.radius for other in kept):
            kept.append(spot)
            found[spot.joint].append(spot.center)
    return found


def _spots(image: Pixels, joint: int, color: tuple[int, int, int]) -> list[_Spot]:
    off = np.abs(image.astype(np.int16) - np.array(color)).max(axis=2)
    # What a limb drawn over a disc cuts apart is one disc still.
    near = cv2.morphologyEx((off <= _NEAR).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    contours = cv2.findContours(near, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    spots = []
    for contour in sorted(contours, key=len, reverse=True)[:_MOST_CANDIDATES]:
        center, radius = cv2.minEnclosingCircle(contour)
        x, y, width, height = cv2.boundingRect(contour)
        pure = float((1 - off[y : y + height, x : x + width] / _NEAR).clip(0).sum())
        spots.append(_Spot(joint, np.array(center), radius, pure))
    return spots


def _line(image: Pixels, a: Floats, b: Floats, color: tuple[int, int, int]) -> float:
    """The share of the line's middle that has this hue."""
    points = np.rint(a + (b - a) * _SAMPLES[:, None]).astype(int)
    pixels = image[points[:, 1].clip(0, image.shape[0] - 1), points[:, 0].clip(0, image.shape[1] - 1)].astype(float)
    peak = pixels.max(axis=1)
    wanted = np.array(color) / max(color)
    same = np.abs(pixels / np.maximum(peak, 1)[:, None] - wanted).max(axis=1) < 0.3
    return float((same & (peak > 60)).mean())


def _join(people: list[dict[int, int]], a: int, i: int, b: int, j: int) -> None:
    """Puts candidate i of joint a and j of joint b into one person, unless that makes two of a joint."""
    first = next((one for one in people if one.get(a) == i), None)
    second = next((one for one in people if one.get(b) == j), None)
    if first is None and second is None:
        people.append({a: i, b: j})
    elif first is not None and second is None:
        first.setdefault(b, j)
    elif second is not None and first is None:
        second.setdefault(a, i)
    elif first is not None and second is not None and first is not second and not first.keys() & second.keys():
        first.update(second)
        people.remove(second)


def _gathered(people: list[dict[int, int]], found: list[list[Floats]]) -> list[dict[int, int]]:
    """Parts of a body whose link to the rest is hidden go to the nearest body that lacks their joints."""
    whole: list[dict[int, int]] = []
    for part in sorted(people, key=len, reverse=True):
        points = np.array([found[joint][index] for joint, index in part.items()])
        best, least = None, np.inf
        for body in whole:
            if body.keys() & part.keys():
                continue
            others = np.array([found[joint][index] for joint, index in body.items()])
            gap = np.linalg.norm(points[:, None] - others[None], axis=2).min()
            if gap < min(least, np.ptp(others, axis=0).max() / 2):
                best, least = body, gap
        if best is None:
            whole.append(dict(part))
        else:
            best.update(part)
    return whole
