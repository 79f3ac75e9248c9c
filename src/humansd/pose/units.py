"""The one place that decides in which unit the coordinates of a file are, before `People` exists.

The majority of a file's labelled points decides, each against its own canvas:

- more than half within 0..1: shares of the canvas; with many below 0: -1..1 from edge to edge;
- all within 0..100 of a canvas of 200 px or more, spread over more than half of that: percent;
- anything else, and whatever is on a canvas of 4 px or less: pixels.

Thousandths look like pixels: they are never decided, and only asked after. A format may declare its unit, and the
user's word (`--units`) goes before all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from humansd.pose.errors import PoseError
from humansd.pose.extras import move_extras
from humansd.pose.people import People

UNITS = {
    "pixels": "pixels of the canvas",
    "shares": "0..1: shares of the canvas",
    "signed": "-1..1: from edge to edge of the canvas",
    "percent": "0..100: percent of the canvas",
    "thousandths": "0..1000: thousandths of the canvas",  # as language models that see write them
}
THOUSANDTHS = "if they are thousandths of the image, say --units thousandths (units=)"
_SMALL_CANVAS = 4  # px: here 0..1 may as well be pixels
_LARGE_CANVAS = 200  # px: here 0..100 is a corner
_SPREAD = 50.0
_FEW_POINTS = 4
_NEGATIVE = 0.3  # share of the points left of or above the middle that only -1..1 has
_OUTSIDE = 0.2  # of the points
_REACH = {
    "shares": 3.0,
    "signed": 3.0,
    "percent": 150.0,
    "thousandths": 1500.0,
}  # beyond: another unit


def check_units(units: str | None) -> None:
    """PoseError for a unit that is none of `UNITS`; None, which lets the points decide, passes."""
    if units is not None and units not in UNITS:
        raise PoseError(f"is {units!r}", field="units", remedy=f"Choose one of {', '.join(UNITS)}.")


def decide(groups: Iterable[tuple[NDArray[np.float64], tuple[int, int]]]) -> str:
    """The unit of a file's points: of each person the labelled points (k, 2), and the canvas (width, height) px."""
    pairs = [(points, canvas) for points, canvas in groups if len(points)]
    if not pairs:
        return "pixels"
    points = np.concatenate([p for p, _ in pairs])
    sides = np.repeat([min(canvas) for _, canvas in pairs], [len(p) for p, _ in pairs])
    size, low = np.abs(points).max(axis=1), points.min(axis=1)
    in_one = (size <= 1) & (sides > _SMALL_CANVAS)
    whole = (points[in_one] == np.rint(points[in_one])).all(axis=1)
    if in_one.sum() > len(points) / 2 and not whole.all():  # corners of whole pixels may lie within 0..1
        return "signed" if (low[in_one] < 0).sum() > _NEGATIVE * in_one.sum() else "shares"
    in_hundred = (size <= 100) & (low >= 0) & (sides >= _LARGE_CANVAS)
    if len(points) >= _FEW_POINTS and in_hundred.all() and np.ptp(points, axis=0).max() > _SPREAD:
        return "percent"
    return "pixels"


def may_be_thousandths(everyone: Iterable[People]) -> bool:
    """Whether so many points lie outside the canvas, and none outside 0..1000, that they are no pixels of it."""
    points = [(people.xy[people.labelled], people.canvas) for people in everyone]
    beyond = sum(int((xy > np.array(canvas)).any(axis=1).sum()) for xy, canvas in points)
    total = sum(len(xy) for xy, _ in points)
    inside = all(((xy >= 0) & (xy <= 1000)).all() for xy, _ in points)
    return bool(inside and total >= _FEW_POINTS and beyond > _OUTSIDE * total)


def to_pixels(xy: NDArray[np.float64], unit: str, canvas: tuple[int, int]) -> NDArray[np.float64]:
    """Points (..., 2) of that unit in pixels of the canvas."""
    scale, shift = _move(unit, canvas)
    return xy if unit == "pixels" else xy * np.array(scale) + np.array(shift)


def extras_to_pixels(extras: dict[str, Any], unit: str, canvas: tuple[int, int]) -> dict[str, Any]:
    """Hands, feet, face, box and other joints in pixels; one that is too large for the unit is in pixels already."""
    if unit == "pixels":
        return extras
    moved = move_extras(extras, *_move(unit, canvas))
    small = {key: value for key, value in moved.items() if _largest(extras[key]) <= _REACH[unit]}
    return extras | small


def area_to_pixels(area: float, unit: str, canvas: tuple[int, int]) -> float:
    """A person's area in px^2, where it is in the unit of the points; a larger one is in px^2 already."""
    if unit == "shares" and area <= 1:
        return area * canvas[0] * canvas[1]
    return area


def _move(unit: str, canvas: tuple[int, int]) -> tuple[tuple[float, float], tuple[float, float]]:
    width, height = canvas
    if unit == "signed":
        return (width / 2, height / 2), (width / 2, height / 2)
    part = {"shares": 1.0, "percent": 100.0, "thousandths": 1000.0}.get(unit, float("nan"))
    return (width / part, height / part), (0.0, 0.0)


def _largest(value: Any) -> float:
    numbers = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    flat = [abs(n) for v in numbers for n in (v if isinstance(v, list) else [v]) if isinstance(n, (int, float))]
    return max(flat, default=0.0)
