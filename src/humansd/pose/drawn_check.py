"""What of a drawing was read surely: each limb is held against the pixels, and who is too small for his lines is not
believed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from humansd.core.arrays import Float64s
from humansd.pose.skeleton import Skeleton

Mask = NDArray[np.bool_]
_SLENDER = 16.0  # of a person's size to the width of a limb; in stouter ones limbs cover each other
_OWN = 0.35  # of a limb's middle has its color, where nothing lies across it
_GAP = 0.1  # of it may be background
_FEWEST = 3  # limbs of a person
_WHOLE, _PIECE = 7, 4  # limbs of a body beside which fewer than the second are a piece of somebody
_SAMPLES = 24  # places on a limb


def sure_joints(
    xy: Float64s, seen: NDArray[np.uint8], of_limb: NDArray[np.int64], filled: Mask, radius: float, skeleton: Skeleton
) -> NDArray[np.uint8]:
    """`seen` (n, k) of 0 and 2 without the joints to which no limb leads that can be made out, and without people of
    whom too little is left.

    xy: (n, k, 2) px. of_limb: (h, w), of each pixel the limb whose color it has, -1 for none. filled: (h, w), what is
    not background. radius: half of a limb's width, px.
    """
    kept, counts = np.zeros_like(seen), np.zeros(len(xy), int)
    for i in range(len(xy)):
        there = np.flatnonzero(seen[i])
        if not len(there) or np.hypot(*np.ptp(xy[i, there], axis=0)) < _SLENDER * 2 * radius:
            continue
        looks = {
            k: _look(xy[i, [a, b]], k, of_limb, filled)
            for k, (a, b) in enumerate(skeleton.limbs)
            if seen[i, a] and seen[i, b]
        }
        made_out = [k for k, (own, gap) in looks.items() if own >= _OWN and gap <= _GAP]
        if 2 * len(made_out) < len(looks):
            continue
        if any(gap > 0.5 for _, gap in looks.values()):  # a limb that nobody drew: these are parts of two people
            made_out = _largest_part(made_out, skeleton)
        joints = sorted({joint for k in made_out for joint in skeleton.limbs[k]})
        if len(made_out) >= _FEWEST:
            kept[i, joints], counts[i] = seen[i, joints], len(made_out)
    if counts.max(initial=0) >= _WHOLE:
        kept[counts < _PIECE] = 0
    return kept


def _look(ends: Float64s, kind: int, of_limb: NDArray[np.int64], filled: Mask) -> tuple[float, float]:
    """Of the middle of the line between two joints the shares that have the limb's color, and the background's."""
    steps = np.linspace(0.2, 0.8, _SAMPLES)[:, None]
    places = np.rint(ends[0] * (1 - steps) + ends[1] * steps).astype(int)
    x, y = np.clip(places, 0, np.array(of_limb.shape[::-1]) - 1).T
    return float((of_limb[y, x] == kind).mean()), float((~filled[y, x]).mean())


def _largest_part(limbs: list[int], skeleton: Skeleton) -> list[int]:
    """Of limbs the most that hang together by their joints."""
    parts: list[set[int]] = []
    none: set[int] = set()
    for limb in limbs:
        touching = [part for part in parts if any(set(skeleton.limbs[limb]) & set(skeleton.limbs[k]) for k in part)]
        parts = [part for part in parts if part not in touching] + [set().union({limb}, *touching)]
    return sorted(max(parts, key=lambda part: len(part), default=none))
