"""Numbers that a person or a file gives."""

from __future__ import annotations

import math
import operator
from typing import Any

LEAST_STRENGTH = 0.001  # of a change of an image: a step of the most there are


def whole(name: str, value: Any, least: int = 1, most: int = 2**63 - 1) -> int:
    """`value` as an int. ValueError for one that is no whole number, or out of its range."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be a whole number")
    if not least <= number <= most:
        raise ValueError(
            f"{name} is {number}; it must be {least} or more" + (f", {most} at most" if number > most else "")
        )
    return number


def real(name: str, value: Any, least: float = -math.inf, most: float = math.inf) -> float:
    """`value` as a finite float. ValueError for one that is no such number, or out of its range."""
    try:
        number = float(value) if not isinstance(value, str | bytes | bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} is {value!r}; it must be a finite number")
    if not least <= number <= most:
        raise ValueError(f"{name} is {value!r}; it must be from {least:g} to {most:g}")
    return number
