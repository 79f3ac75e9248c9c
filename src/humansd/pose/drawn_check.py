"""What of a drawing was read surely: limbs and joints are held against the pixels and against other people's, and what
may be read in two ways is left out.

A person is read from joint to joint. Where a limb cannot be made out, where another person's limb ends as near, where a
limb's color goes on past the joint or stops before it, the chain breaks, and the largest piece that hangs together is
believed. The thresholds are those of `benchmarks.drawings`, on poses of COCO's training set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from humansd.core.arrays import Float64s
from humansd.pose.drawn_limbs import Found, Limb, reach_of
from humansd.pose.skeleton import COCO17, Skeleton

Mask = NDArray[np.bool_]
_SLENDER = 14.0  # of a person's size to the width of a limb; in stouter ones limbs cover each other
_OWN = 0.35  # of a limb's middle has its color, where nothing lies across it
_GAP = 0.1  # of it may be background
_UNDRAWN = 0.5  # of it is background: nobody drew this limb
_WIDTHS = (0.6, 1.35)  # of the usual width: thinner ones are rims, wider ones two limbs of one color
_FILLED = 0.35  # of a limb's bar has its color; less is two limbs of one color in a row
_RIVAL = 1.5  # of the reach of a joint: no nearer may another person's limb end there
_SPECK = 0.5  # of the pixels of the joint's own limbs; a smaller one is noise
_PAST = 2  # px of a limb's color behind its joint: it is longer than was read
_SHORT = 0.9  # widths of a limb before its joint that have another color: its end is covered
_WHOLE = 0.5  # of the limbs that were put together must be left
_FEWEST, _FEWEST_OF_MANY = 3, 4  # limbs of a person
_TWICE = 2  # limbs in common are two people's
_SECOND = 0.25  # of the pixels of the largest limb of a color: another as large is another person's
_TORSO, _CLEARER = 1.0, 0.4  # cost of two sides of one torso, and how much more any other pair must cost
_SAMPLES = 24  # places on a limb


@dataclass
class _Part:
    """What is believed of body `index`: limbs by number, the joints at their ends, and those of them that are sure."""

    index: int
    limbs: set[int]
    joints: set[int]
    sure: set[int]


def sure_joints(found: Found, of_limb: NDArray[np.int64], filled: Mask, skeleton: Skeleton) -> NDArray[np.uint8]:
    """`found.seen` (n, k) of 0 and 2 without joints and people of whom the drawing does not tell where they are.

    of_limb: (h, w), of each pixel the limb whose color it has, -1 for none. filled: (h, w), what is not background.
    """
    kept = np.zeros_like(found.seen)
    several = _several(found.limbs)
    parts = [_sure_part(i, found, of_limb, filled, skeleton, several) for i in range(len(found.bodies))]
    there = sorted((part for part in parts if part is not None), key=lambda part: -len(part.limbs))
    read: list[set[int]] = []
    for part in there:
        if len(part.limbs) < (_FEWEST_OF_MANY if several or len(there) > 1 else _FEWEST):
            continue
        if (read and not several) or any(len(part.limbs & other) < _TWICE for other in read):
            continue  # it may be a piece of a person that is read
        read.append(part.limbs)
        kept[part.index, sorted(part.sure)] = 2
    return kept


def _several(limbs: Sequence[Limb]) -> bool:
    """Whether a limb was drawn twice, so that there are several people."""
    for kind in {limb.kind for limb in limbs}:
        sizes = sorted((limb.pixels for limb in limbs if limb.kind == kind), reverse=True)
        if len(sizes) > 1 and sizes[1] > _SECOND * sizes[0]:
            return True
    return False


def _sure_part(
    i: int, found: Found, of_limb: NDArray[np.int64], filled: Mask, skeleton: Skeleton, several: bool
) -> _Part | None:
    """What is believed of one body; None where that is nothing."""
    there = np.flatnonzero(found.seen[i])
    if not len(there) or np.hypot(*np.ptp(found.xy[i, there], axis=0)) < _SLENDER * 2 * found.radius:
        return None
    own = {limb.kind: limb for limb in found.bodies[i]}
    looks = {
        k: _look(found.xy[i, [a, b]], k, of_limb, filled)
        for k, (a, b) in enumerate(skeleton.limbs)
        if found.seen[i, a] and found.seen[i, b]
    }
    clear = [
        k
        for k, (share, gap) in looks.items()
        if share >= _OWN and gap <= _GAP and k in own and _is_a_bar(own[k], found.radius)
    ]
    if 2 * len(clear) < len(looks):
        return None
    doubtful = {int(j) for j in there if _is_doubtful(int(j), i, found, of_limb)}
    pieces = _pieces(clear, doubtful, skeleton)
    if not pieces:
        return None
    limbs = set(pieces[0])
    if not any(gap > _UNDRAWN for _, gap in looks.values()):  # else these are parts of two people
        alone = not several or not any(len(body) > 1 for q, body in enumerate(found.bodies) if q != i)
        for piece in pieces[1:]:
            if alone or _one_torso(limbs, piece, own, found.limbs, skeleton):
                limbs |= piece
    if len(limbs) < _WHOLE * len(found.bodies[i]):
        return None
    joints = _joints_of(limbs, skeleton)
    return _Part(i, limbs, joints, joints - doubtful)


def _look(ends: Float64s, kind: int, of_limb: NDArray[np.int64], filled: Mask) -> tuple[float, float]:
    """Of the middle of the line between two joints the shares that have the limb's color, and the background's."""
    steps = np.linspace(0.2, 0.8, _SAMPLES)[:, None]
    places = np.rint(ends[0] * (1 - steps) + ends[1] * steps).astype(int)
    x, y = np.clip(places, 0, np.array(of_limb.shape[::-1]) - 1).T
    return float((of_limb[y, x] == kind).mean()), float((~filled[y, x]).mean())


def _is_a_bar(limb: Limb, radius: float) -> bool:
    """Whether a limb is as wide as the others, and its pixels fill it."""
    length = float(np.hypot(*(limb.ends[1] - limb.ends[0]))) + 1
    usual = _WIDTHS[0] * radius <= limb.radius <= _WIDTHS[1] * radius
    return usual and limb.pixels >= _FILLED * length * 2 * limb.radius


def _is_doubtful(joint: int, i: int, found: Found, of_limb: NDArray[np.int64]) -> bool:
    """Whether a joint of body i may be elsewhere, or its limbs another person's."""
    place = found.xy[i, joint]
    limbs = [limb for limb in found.bodies[i] if joint in limb.joints]
    near, least = _RIVAL * reach_of(found.limbs), _SPECK * min(limb.pixels for limb in limbs)
    for limb in found.limbs:
        if joint not in limb.joints or limb.pixels < least or any(limb is one for one in limbs):
            continue
        if np.hypot(*(limb.ends[limb.joints.index(joint)] - place)) < near:
            return True
    short = np.inf
    for limb in limbs:
        start = found.xy[i, limb.joints[1 - limb.joints.index(joint)]]
        length = float(np.hypot(*(place - start)))
        if length < 1:
            continue
        direction = (place - start) / length
        past = np.arange(found.radius + 3, 4 * found.radius + 10)
        if (_colors(of_limb, place + past[:, None] * direction) == limb.kind).sum() >= _PAST:
            return True
        back = np.flatnonzero(_colors(of_limb, place - np.arange(0, length)[:, None] * direction) == limb.kind)
        short = min(short, float(back[0]) if len(back) else length)
    return bool(short > _SHORT * 2 * found.radius)


def _colors(of_limb: NDArray[np.int64], places: Float64s) -> NDArray[np.int64]:
    """What `of_limb` has at places (n, 2) px, -1 outside."""
    x, y = np.rint(places).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < of_limb.shape[1]) & (y < of_limb.shape[0])
    colors = np.full(len(places), -1, np.int64)
    colors[inside] = of_limb[y[inside], x[inside]]
    return colors


def _pieces(limbs: Iterable[int], doubtful: set[int], skeleton: Skeleton) -> list[set[int]]:
    """Limbs that hang together by joints that are not doubtful, the largest piece first."""
    pieces: list[tuple[set[int], set[int]]] = []
    for limb in limbs:
        joints = set(skeleton.limbs[limb]) - doubtful
        touching = [piece for piece in pieces if piece[1] & joints]
        whole = ({limb}.union(*(p[0] for p in touching)), joints.union(*(p[1] for p in touching)))
        pieces = [*(piece for piece in pieces if piece not in touching), whole]
    return sorted((piece[0] for piece in pieces), key=lambda piece: -len(piece))


def _joints_of(limbs: Iterable[int], skeleton: Skeleton) -> set[int]:
    return {joint for limb in limbs for joint in skeleton.limbs[limb]}


def _one_torso(one: set[int], other: set[int], own: dict[int, Limb], limbs: Sequence[Limb], skeleton: Skeleton) -> bool:
    """Whether two pieces have the two sides of a torso, alike and near each other, and no other side fits as well.

    HumanSD's drawing has no limb between the sides; OpenPose's has a neck.
    """
    if skeleton is not COCO17:
        return False
    left, right = (skeleton.limbs.index(pair) for pair in ((5, 11), (6, 12)))
    if not ((left in one and right in other) or (right in one and left in other)):
        return False
    cost = _torso_cost(own[left], own[right])
    rivals = [_torso_cost(limb, own[right]) for limb in limbs if limb.kind == left and limb is not own[left]]
    rivals += [_torso_cost(own[left], limb) for limb in limbs if limb.kind == right and limb is not own[right]]
    return cost < _TORSO and min(rivals, default=np.inf) > cost + _CLEARER


def _torso_cost(left: Limb, right: Limb) -> float:
    """How far apart shoulders and hips are, in lengths of the sides, and how unlike the lengths (0: the same limb)."""
    a, b = (
        (limb.ends if limb.joints and limb.joints[0] < limb.joints[1] else limb.ends[::-1]) for limb in (left, right)
    )
    lengths = [max(float(np.hypot(*(ends[1] - ends[0]))), 1.0) for ends in (a, b)]
    apart = float(np.hypot(*(a[0] - b[0])) + np.hypot(*(a[1] - b[1])))
    return apart / sum(lengths) + abs(float(np.log(lengths[0] / lengths[1])))
