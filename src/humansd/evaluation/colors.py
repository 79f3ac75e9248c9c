"""The colour of a top as it can be seen: of each torso, the nearest of Atelier's twelve colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from humansd.pose.people import People
from humansd.pose.skeleton import COCO17
from humansd.synthetic.plan import COLORED_SCENES, COLORS

TORSO = tuple(COCO17.joints.index(name) for name in ("left_shoulder", "right_shoulder", "right_hip", "left_hip"))
SHRUNK = 0.7  # of the torso that is looked at, about its centre: arms and background stay out
LEAST_PX = 4  # area of what is looked at


@dataclass(frozen=True)
class TopColor:
    """The top of one person: the colour that the caption names, and those of the generated and the real image.

    place: of the person, 1 for the first, as in the people of the data. found, ceiling: of `COLOURS`; ceiling is None
    where there is no real image.
    """

    place: int
    named: str
    found: str
    ceiling: str | None


def named_tops(scene: str, extras: Mapping[str, Any], n_people: int) -> tuple[str | None, ...]:
    """The colour of each person's top that the caption names (n_people), None where it names none; () if unknown.

    extras: those of a sample: `top_colours`, and `named`, whether a caption speaks of that top (all, by default).
    """
    tops, named = extras.get("top_colours"), extras.get("named", [True] * n_people)
    fits = all(isinstance(one, list) and len(one) == n_people for one in (tops, named))
    if not fits or scene not in COLORED_SCENES:
        return ()
    return tuple(top if told and top in COLORS else None for top, told in zip(tops or (), named, strict=True))


def top_colors(
    tops: Sequence[str | None], people: People, generated: NDArray[np.uint8], real: NDArray[np.uint8] | None
) -> tuple[TopColor, ...]:
    """What was named and seen of everyone whose top is named and whose torso can be looked at.

    people: those who were asked for, on the canvas of both images (h, w, 3).
    """
    found = []
    for place, named in enumerate(tops):
        inner = None if named is None else torso_mask(people, place)
        if named is not None and inner is not None:
            ceiling = None if real is None else seen_color(real, inner)
            found.append(TopColor(place + 1, named, seen_color(generated, inner), ceiling))
    return tuple(found)


def torso_mask(people: People, place: int) -> NDArray[np.bool_] | None:
    """(h, w): the torso of one person (from 0), shrunk to `SHRUNK`; None where one of its four joints is hidden or
    absent, or less than `LEAST_PX` px of it are there."""
    people = people.to_skeleton(COCO17)
    rows = list(TORSO)
    if (people.visibility[place, rows] < 2).any():
        return None
    mask = fill_torso(people.xy[place, rows], people.canvas)
    return mask if mask is not None and mask.sum() >= LEAST_PX else None


def fill_torso(corners: NDArray[np.float64], canvas: tuple[int, int]) -> NDArray[np.bool_] | None:
    """(h, w) inside the four corners (4, 2) px, shrunk about their centre; None for less than `LEAST_PX` px."""
    centre = corners.mean(axis=0)
    inner = np.round((centre + SHRUNK * (corners - centre)) * 16).astype(np.int32)
    if cv2.contourArea(inner) < LEAST_PX * 16**2:
        return None
    mask = np.zeros((canvas[1], canvas[0]), np.uint8)
    cv2.fillPoly(mask, [inner], 1, shift=4)
    return mask > 0


def seen_color(image: NDArray[np.uint8], inside: NDArray[np.bool_]) -> str:
    """The colour of `COLOURS` nearest to the mean inside (h, w) of an image, uint8 (h, w, 3)."""
    return nearest_color(image[inside].mean(axis=0) / 255)


def nearest_color(rgb: NDArray[np.floating[Any]]) -> str:
    """The name in COLOURS nearest to sRGB (3,) in [0, 1], in CIELAB.

    Lightness counts half: cloth is shaded, its hue is not.
    """
    names = list(COLORS)
    table = np.array([COLORS[name] for name in names], np.float32) / 255
    lab = cv2.cvtColor(np.vstack([table, rgb[None]]).astype(np.float32)[:, None], cv2.COLOR_RGB2LAB)[:, 0]
    distance = np.linalg.norm((lab[:-1] - lab[-1]) * (0.5, 1, 1), axis=1)
    return names[int(distance.argmin())]
