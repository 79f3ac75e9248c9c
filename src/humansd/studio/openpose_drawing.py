"""Joints out of a drawn OpenPose skeleton, as ControlNet's clients send it: the colors say which joint is where."""

from __future__ import annotations

from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from humansd.pose.people import People
from humansd.pose.skeleton import OPENPOSE18

Pixels = NDArray[np.uint8]
_NEAR = 45  # of 255, for a joint's color; neighbors in the palette differ by 85
_SAMPLES = np.linspace(0.2, 0.8, 13)
_MOST_CANDIDATES = 60  # of one joint
_LEAST_LINE = 0.6  # of the samples between two joints have the limb's hue


def read_drawing(image: Pixels) -> People:
    """The people of a drawing, uint8 (H, W, 3) on black, on its canvas; nobody where it shows no joints.

    Discs of a joint's color are its candidates. Two of them belong together where the line between them has the color
    of their limb.
    """
    found = [_candidates(image, color) for color in OPENPOSE18.joint_colors]
    people: list[dict[int, int]] = []
    for (a, b), color in zip(OPENPOSE18.limbs, OPENPOSE18.limb_colors, strict=True):
        links = [
            (_line(image, found[a][i], found[b][j], color), i, j)
            for i, j in product(range(len(found[a])), range(len(found[b])))
        ]
        for score, i, j in sorted(links, reverse=True):
            if score >= _LEAST_LINE:
                _join(people, a, i, b, j)
    n, k = len(people), len(OPENPOSE18)
    xy, seen = np.zeros((n, k, 2)), np.zeros((n, k), np.uint8)
    for row, person in enumerate(people):
        for joint, index in person.items():
            xy[row, joint], seen[row, joint] = found[joint][index], 2
    canvas = (image.shape[1], image.shape[0])
    return People.of(xy, canvas, visibility=seen, skeleton=OPENPOSE18) if n else People.empty(canvas, OPENPOSE18)


def _candidates(image: Pixels, color: tuple[int, int, int]) -> list[NDArray[np.float64]]:
    """Centers (x, y) of the spots of this color."""
    near = (np.abs(image.astype(np.int16) - np.array(color)).max(axis=2) <= _NEAR).astype(np.uint8)
    # What a limb drawn over a disc cuts apart is one disc still.
    near = cv2.morphologyEx(near, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    contours = cv2.findContours(near, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    largest = sorted(contours, key=len, reverse=True)[:_MOST_CANDIDATES]
    return [np.array(cv2.minEnclosingCircle(contour)[0]) for contour in largest if len(contour) >= 2]


def _line(image: Pixels, a: NDArray[np.float64], b: NDArray[np.float64], color: tuple[int, int, int]) -> float:
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
