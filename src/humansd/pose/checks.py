"""Checks of the values a pose is made of; each raises `PoseError` naming the field."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from humansd.pose.errors import PoseError

MAX_CANVAS = 32768


def check_canvas(canvas: Any) -> tuple[int, int]:
    """(width, height) as plain ints; PoseError unless both are whole numbers in 1..32768."""
    remedy = f"Give the picture's width and height in pixels, 1 to {MAX_CANVAS}."
    if not isinstance(canvas, (tuple, list, np.ndarray)) or len(canvas) != 2:
        raise PoseError(f"{canvas!r} is not (width, height)", field="canvas", remedy=remedy)
    for side in canvas:
        real = isinstance(side, (int, float, np.integer, np.floating)) and not isinstance(side, bool)
        if not (real and 1 <= side <= MAX_CANVAS and side == int(side)):
            raise PoseError(f"{side!r} is not a picture side", field="canvas", remedy=remedy)
    return int(canvas[0]), int(canvas[1])


def floats(values: Any, name: str, shape: tuple[int, ...] | None = None) -> NDArray[np.float64]:
    """A fresh float64 array, finite and of the given shape."""
    try:
        array = np.array(values)
        if array.dtype.kind not in "iuf" and array.size:
            raise TypeError(array.dtype)
        array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise PoseError("must hold numbers in equal rows", field=name) from None
    if shape is not None and array.shape != shape:
        raise PoseError(f"the shape is {array.shape}, expected {shape}", field=name)
    if not np.isfinite(array).all():
        raise PoseError("holds NaN or infinity", field=name, remedy="Mark a missing joint with visibility 0 at (0, 0).")
    return array


def visibilities(values: Any, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A fresh uint8 array of 0, 1 and 2, of the given shape."""
    try:
        array = np.array(values)
    except ValueError:
        array = np.empty(0)
    if array.shape != shape:
        raise PoseError(f"the shape is {array.shape}, expected {shape}", field="visibility")
    if array.dtype.kind == "O" and all(type(v) in (int, float) and abs(v) < 9 for v in array.flat):
        array = array.astype(np.float64)
    if array.size and (array.dtype.kind not in "iuf" or not np.isin(array, (0, 1, 2)).all()):
        raise PoseError(
            "holds a value that is not 0, 1 or 2",
            field="visibility",
            remedy="Use 0 for absent, 1 for labelled but hidden and 2 for visible.",
        )
    return array.astype(np.uint8)


def areas_of(values: Any, n: int) -> NDArray[np.float64]:
    """A fresh float64 (n,) of areas of 0 or more, NaN where unknown (everywhere when empty)."""
    try:
        area = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        area = np.array([-1.0])
    area = np.full(n, np.nan) if area.size == 0 else area
    if area.shape != (n,) or np.isinf(area).any() or (area < 0).any():
        raise PoseError(
            f"must be {n} numbers of 0 or more", field="area", remedy="Use NaN where the area is not known."
        )
    return area


def exact_keys(data: Any, wanted: set[str], name: str) -> None:
    if not isinstance(data, dict) or set(data) != wanted:
        got = ", ".join(sorted(map(str, data))) if isinstance(data, dict) else type(data).__name__
        raise PoseError(f"needs exactly the keys {', '.join(sorted(wanted))}, got {got}", field=name)
