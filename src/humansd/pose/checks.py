"""Checks of the values a pose is made of; each raises `PoseError` naming the field."""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from humansd.pose.errors import PoseError

MAX_CANVAS = 32768
MAX_DEPTH = 32  # of lists and dicts in each other, in what is carried along
_MAX_AXES = 4
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 60, 60


def shown(value: Any) -> str:
    """A value for an error message: its repr, cut where it is long, deep or refused."""
    try:
        text = _SHORT.repr(value)
    except (ValueError, RecursionError):  # as of an integer of thousands of digits
        text = type(value).__name__
    return text if len(text) <= 120 else f"{text[:117]}..."


def is_text(text: str) -> bool:
    """Whether it can be written: JSON and file names may hold half a character (a lone surrogate)."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def depth(value: Any) -> int:
    """How deep lists and dicts stand in each other: 0 for a number, 1 for a list of them; at most `MAX_DEPTH` + 1."""
    level, count = [value] if isinstance(value, (list, dict)) else [], 0
    while level and count <= MAX_DEPTH:
        inner = (v for holder in level for v in (holder.values() if isinstance(holder, dict) else holder))
        level, count = [v for v in inner if isinstance(v, (list, dict))], count + 1
    return count


def check_name(name: str, field: str) -> str:
    """An image's name as it is; PoseError where no file could have it."""
    if not is_text(name) or "\0" in name:
        raise PoseError(
            f"{shown(name)} holds half a character or a zero byte", field=field, remedy="Rename it with plain letters."
        )
    return name


def check_extras(extras: dict[str, Any]) -> dict[str, Any]:
    """What a person carries, as it is; PoseError where it is nested without end."""
    if depth(extras) > MAX_DEPTH:
        raise PoseError(f"are nested deeper than {MAX_DEPTH}", field="extras", remedy="Remove them, or make them flat.")
    return extras


def check_canvas(canvas: Any) -> tuple[int, int]:
    """(width, height) as plain ints; PoseError unless both are whole numbers in 1..32768."""
    remedy = f"Give the image's width and height in pixels, 1 to {MAX_CANVAS}."
    if not isinstance(canvas, (tuple, list, np.ndarray)) or len(canvas) != 2:
        raise PoseError(f"{shown(canvas)} is not (width, height)", field="canvas", remedy=remedy)
    for side in canvas:
        real = isinstance(side, (int, float, np.integer, np.floating)) and not isinstance(side, bool)
        if not (real and 1 <= side <= MAX_CANVAS and side == int(side)):
            raise PoseError(f"{shown(side)} is not an image side", field="canvas", remedy=remedy)
    return int(canvas[0]), int(canvas[1])


def floats(values: Any, name: str, shape: tuple[int, ...] | None = None) -> NDArray[np.float64]:
    """A fresh float64 array, finite and of the given shape."""
    try:
        check_leaves(values)
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
        check_leaves(values)
        array = np.array(values)
    except (TypeError, ValueError):
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


def is_corner(xy: NDArray[np.float64], seen: NDArray[np.uint8]) -> bool:
    """Whether a joint (k, 2) that is seen (k,) lies at exactly 0, 0, where other tools put what they did not find."""
    return bool(((xy == 0).all(axis=1) & (seen > 0)).any())


def areas_of(values: Any, n: int) -> NDArray[np.float64]:
    """A fresh float64 (n,) of areas of 0 or more, NaN where unknown (everywhere when empty)."""
    try:
        check_leaves(values)
        area = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        area = np.array([-1.0])
    area = np.full(n, np.nan) if area.shape == (0,) else area
    if area.shape != (n,) or np.isinf(area).any() or (area < 0).any():
        raise PoseError(
            f"must be {n} numbers of 0 or more", field="area", remedy="Use NaN where the area is not known."
        )
    return area


def check_leaves(values: Any) -> None:
    """TypeError where lists hold anything but numbers, of which numpy would make numbers or very long texts."""
    level = [values] if isinstance(values, (list, tuple)) else []
    for _ in range(_MAX_AXES):
        leaves = [v for row in level for v in row if not isinstance(v, (list, tuple))]
        for kind in set(map(type, leaves)):
            if kind is bool or not issubclass(kind, (int, float, np.number, np.ndarray)):
                raise TypeError(kind)
        level = [v for row in level for v in row if isinstance(v, (list, tuple))]
    if level:
        raise ValueError("nested too deep")


def exact_keys(data: Any, wanted: set[str], name: str) -> None:
    if not isinstance(data, dict) or set(data) != wanted:
        got = shown(sorted(map(str, data)))[1:-1] if isinstance(data, dict) else type(data).__name__
        raise PoseError(f"needs exactly the keys {', '.join(sorted(wanted))}, got {got}", field=name)
