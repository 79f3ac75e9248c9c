"""Limbs of a drawing, and the people that they make up.

Each limb has a color of its own, so its pixels say where it lies: the ends of a limb are two joints, and ends of
different limbs that meet are the joint which they share. OpenPose's bright discs say where a joint is to the pixel.
Parts of a limb that others cross are joined over the crossing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from humansd.core.arrays import Float64s
from humansd.pose.skeleton import COCO17, OPENPOSE18, Skeleton

Mask = NDArray[np.bool_]
LEAST_PIXELS = 8  # of a piece of a limb
_SLIM = 0.4  # of the usual width: what is thinner is the rim of another limb
_ANY = -1  # discs of whatever color
_CROWDED = 3  # limbs at a joint
_CLEARER = 2.0  # times farther than the nearest is the next that it could be
_NEAR = 0.6  # of a group's size: another that near without a joint in common is the same body's


@dataclass
class Limb:
    """A limb as found: its number in the skeleton, its ends (2, 2) px, half its width, and which joint each end is."""

    kind: int
    ends: Float64s
    radius: float
    joints: list[int] = field(default_factory=list)
    pixels: int = 0


@dataclass
class Found:
    """What a drawing shows: joints of all people, px: xy (n, k, 2), which of them are seen (n, k) of 0 and 2, half of a
    limb's width, the limbs of each person, all limbs, and joint -> centres of its discs (-1: of any color)."""

    xy: Float64s
    seen: NDArray[np.uint8]
    radius: float
    bodies: list[list[Limb]]
    limbs: list[Limb]
    discs: dict[int, list[Float64s]]


def find_people(
    of_joint: NDArray[np.int64], of_limb: NDArray[np.int64], filled: Mask, bright: Mask, disc: Mask, skeleton: Skeleton
) -> Found:
    """The people of a drawing.

    of_joint, of_limb: of each pixel the joint and the limb whose color it has, -1 for none. filled: not background.
    bright, disc: pixels brighter than limbs are, and those that are pure too, as discs.
    """
    discs = _discs(of_joint, disc, skeleton)
    limbs: list[Limb] = []
    for kind in range(len(skeleton.limbs)):
        mask = of_limb == kind
        if discs:
            mask &= ~bright
        limbs += _joined(_components(mask, kind), filled)
    radius = float(np.median([limb.radius for limb in limbs])) if limbs else 0.0
    limbs = [limb for limb in limbs if limb.radius > _SLIM * radius]
    _turn(limbs, discs, skeleton)
    bodies = _group([limb for limb in limbs if limb.joints], skeleton, reach_of(limbs))
    xy, seen = _joints(bodies, discs, skeleton)
    return Found(xy, seen, radius, bodies, limbs, discs)


def _discs(label: NDArray[np.int64], bright: Mask, skeleton: Skeleton) -> dict[int, list[Float64s]]:
    """Joint -> centres of its discs; {} where the drawing has none."""
    if not skeleton.joint_colors:
        return {}
    colored = (label >= 0).sum()
    if bright.sum() > 0.6 * colored:  # limbs as bright as discs
        return {}
    parts: list[tuple[int, Float64s, float]] = []
    for joint in range(len(skeleton)):
        count, _, stats, centres = cv2.connectedComponentsWithStats(((label == joint) & bright).astype(np.uint8))
        parts += [(joint, centres[i], float(stats[i, 4])) for i in range(1, count) if stats[i, 4] >= 3]
    if not parts:
        return {}
    largest = [max((a for j, _, a in parts if j == joint), default=0.0) for joint in range(len(skeleton))]
    reach = 2.2 * np.sqrt(float(np.median([a for a in largest if a])) / np.pi)
    found: list[list[tuple[Float64s, float]]] = [[] for _ in skeleton.joints]
    for joint, centre, area in sorted(parts, key=lambda part: -part[2]):
        for i, (other, weight) in enumerate(found[joint]):  # a limb may lie across a disc
            if np.hypot(*(other - centre)) <= reach:
                found[joint][i] = ((other * weight + centre * area) / (weight + area), weight + area)
                break
        else:
            found[joint].append((centre, area))
    least = 0.3 * float(np.median([max((a for _, a in one), default=0.0) for one in found if one]))
    discs = {j: [centre for centre, area in one if least <= area] for j, one in enumerate(found)}
    count, _, stats, centres = cv2.connectedComponentsWithStats(bright.astype(np.uint8))
    discs[_ANY] = [centres[i] for i in range(1, count) if least <= stats[i, 4] <= 6 * least]
    return {joint: centres for joint, centres in discs.items() if centres}


def _components(mask: Mask, kind: int) -> list[tuple[NDArray[np.int64], int]]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    parts = []
    for i in range(1, count):
        if stats[i, 4] >= LEAST_PIXELS and max(stats[i, 2:4]) >= 4:
            x, y, w, h = stats[i, :4]
            ys, xs = np.nonzero(labels[y : y + h, x : x + w] == i)
            parts.append((np.column_stack([xs + x, ys + y]), kind))
    return parts


def _joined(parts: list[tuple[NDArray[np.int64], int]], filled: Mask) -> list[Limb]:
    """Limbs of the parts of one color; parts in one line with nothing but other limbs between them are one limb."""
    parts = sorted(parts, key=lambda part: -len(part[0]))
    limbs: list[tuple[NDArray[np.int64], Limb]] = []
    largest = len(parts[0][0]) if parts else 0
    for points, kind in parts:
        limb = _fitted(points, kind)
        if limb is None:
            continue
        for i, (others, other) in enumerate(limbs):
            if len(points) >= 0.06 * len(others) and _in_line(other, points, filled):
                together = np.concatenate([others, points])
                limbs[i] = (together, _fitted(together, kind) or other)
                break
        else:
            if len(points) >= 0.08 * largest or len(points) > 60:
                limbs.append((points, limb))
    return [limb for _, limb in limbs]


def _fitted(points: NDArray[np.int64], kind: int) -> Limb | None:
    """The limb of these pixels: the ends of their long axis, and half of its width."""
    middle = points.mean(axis=0)
    away = points - middle
    _, vectors = np.linalg.eigh(away.T @ away)
    along, across = away @ vectors[:, 1], away @ vectors[:, 0]
    low, high = float(along.min()), float(along.max())
    if high - low < 2:
        return None
    radius = float(np.percentile(np.abs(across), 95)) + 0.25
    ends = middle + np.outer([low, high], vectors[:, 1])
    return Limb(kind, ends, radius, pixels=len(points))


def _in_line(limb: Limb, points: NDArray[np.int64], filled: Mask) -> bool:
    """Whether pixels continue a limb's line, with no background in between."""
    start, end = limb.ends
    length = max(float(np.hypot(*(end - start))), 1e-6)
    direction = (end - start) / length
    middle = points.mean(axis=0)
    across = abs((middle - start) @ np.array([-direction[1], direction[0]]))
    if across > 1.2 * limb.radius + 1:
        return False
    near = points[((points - (start + end) / 2) ** 2).sum(axis=1).argmin()]
    edge = limb.ends[((limb.ends - near) ** 2).sum(axis=1).argmin()]
    steps = np.linspace(edge, near, max(2, int(np.hypot(*(near - edge)))))
    where = np.clip(np.rint(steps).astype(int), 0, np.array(filled.shape[::-1]) - 1)
    return bool(filled[where[:, 1], where[:, 0]].all())


def reach_of(limbs: list[Limb]) -> float:
    """How far ends of limbs that share a joint may be apart, px."""
    return 3.0 * float(np.median([limb.radius for limb in limbs])) + 4 if limbs else 4.0


def _turn(limbs: list[Limb], discs: dict[int, list[Float64s]], skeleton: Skeleton) -> None:
    """Says of each limb which joint each of its ends is: by discs there, and by the limbs that end there too."""
    reach = reach_of(limbs)
    nothing = np.zeros((0, 2))
    ends = {kind: [limb.ends for limb in limbs if limb.kind == kind] for kind in range(len(skeleton.limbs))}
    spots = {joint: np.array(centres) for joint, centres in discs.items()}

    def support(limb: Limb, order: tuple[int, ...]) -> float:
        total = 0.0
        for end, joint in zip(limb.ends, order, strict=True):
            others = [
                e for kind, pair in enumerate(skeleton.limbs) if kind != limb.kind and joint in pair for e in ends[kind]
            ]
            total += 2 * max(0.0, 1 - _nearest(spots.get(joint, nothing), end) / reach)
            total += max(0.0, 1 - _nearest(np.concatenate([nothing, *others]), end) / reach)
        return total

    for limb in limbs:
        pair = skeleton.limbs[limb.kind]
        either = [support(limb, order) for order in (pair, pair[::-1])]
        if max(either) > 0 and either[0] != either[1]:
            limb.joints = list(pair if either[0] > either[1] else pair[::-1])


def _nearest(points: Float64s, place: Float64s) -> float:
    """How far the nearest of points (n, 2) is; infinity where there are none."""
    return float(np.hypot(*(points - place).T).min(initial=np.inf))


def _group(limbs: list[Limb], skeleton: Skeleton, reach: float) -> list[list[Limb]]:
    """Limbs of one person each: nearest ends first, one limb of a kind a person."""
    groups = {i: [limb] for i, limb in enumerate(limbs)}
    member = list(range(len(limbs)))
    for _, i, j in _meetings(limbs, skeleton, reach):
        one, two = member[i], member[j]
        if one == two or {x.kind for x in groups[one]} & {x.kind for x in groups[two]}:
            continue
        groups[one] += groups.pop(two)
        member = [one if m == two else m for m in member]
    bodies = _bodies(list(groups.values()), skeleton)
    return [body for body in bodies if len(body) > 1] or bodies


def _meetings(limbs: list[Limb], skeleton: Skeleton, reach: float) -> list[tuple[float, int, int]]:
    """Distance and numbers of limbs of two kinds with ends of one joint within `reach`, the nearest first."""
    found = []
    for joint in range(len(skeleton)):
        at = [(i, end) for i, limb in enumerate(limbs) for end, j in zip(limb.ends, limb.joints) if j == joint]
        ends = np.array([end for _, end in at]).reshape(-1, 2)
        away = np.hypot(*(ends[:, None] - ends[None]).transpose(2, 0, 1))
        for m, n in np.argwhere(np.triu(away <= reach, 1)):
            i, j = at[m][0], at[n][0]
            if limbs[i].kind != limbs[j].kind:
                found.append((float(away[m, n]), i, j))
    return sorted(found)


def _bodies(groups: list[list[Limb]], skeleton: Skeleton) -> list[list[Limb]]:
    """Groups that no limb joins, as the sides of a body whose face is not seen, together: the nearest that may be one
    body's, no farther apart than the larger of them is tall. Of a group that may as well be another's nobody is sure:
    it is left out."""
    known = dict(enumerate(sorted(groups, key=len, reverse=True)))
    gaps = _gaps(known, [*known], skeleton)
    while gaps:
        i, j = min(gaps, key=lambda pair: (gaps[pair], pair))
        others = [gap for (a, b), gap in gaps.items() if j in (a, b) and i not in (a, b)]
        rivals = [
            gap
            for (a, b), gap in gaps.items()
            if i in (a, b) and j not in (a, b) and _share(known[j], known[b if a == i else a])
        ]
        part, joined = known.pop(j), min(others + rivals, default=np.inf) > _CLEARER * gaps[i, j]
        gaps = {pair: gap for pair, gap in gaps.items() if j not in pair and not (joined and i in pair)}
        if joined:
            known[i] += part
            gaps |= _gaps(known, [i], skeleton)
    return [*known.values()]


def _gaps(groups: dict[int, list[Limb]], changed: list[int], skeleton: Skeleton) -> dict[tuple[int, int], float]:
    """The gaps below `_NEAR` of the groups of these numbers to all others, by their numbers, the lower one first."""
    numbers = np.array([*groups])
    ends = [np.concatenate([limb.ends for limb in group]) for group in groups.values()]
    low, high = (np.array([of(e, axis=0) for e in ends]).reshape(-1, 2) for of in (np.min, np.max))
    size = (high - low).max(axis=1, initial=0)
    found = {}
    for number in changed:
        own = int(np.flatnonzero(numbers == number)[0])
        apart = np.hypot(*np.maximum(np.maximum(low - high[own], low[own] - high), 0).T)
        for other in numbers[apart < _NEAR * np.maximum(size, size[own])].tolist():
            i, j = sorted((number, other))
            if i < j and (i, j) not in found and (gap := _gap(groups[i], groups[j], skeleton)) < _NEAR:
                found[i, j] = gap
    return found


def _share(one: list[Limb], other: list[Limb]) -> bool:
    """Whether two groups have a joint in common, so that they are different people's."""
    return bool({joint for limb in one for joint in limb.joints} & {joint for limb in other for joint in limb.joints})


def _gap(one: list[Limb], other: list[Limb], skeleton: Skeleton) -> float:
    """How far apart two groups are, as a share of the larger one's size; infinity where they cannot be one body's: they
    have a joint in common, or a limb would have to be there between two of their joints."""
    names = [{joint for limb in group for joint in limb.joints} for group in (one, other)]
    between = any((a in names[0] and b in names[1]) or (a in names[1] and b in names[0]) for a, b in skeleton.limbs)
    if between or names[0] & names[1]:
        return float("inf")
    ends = [np.concatenate([limb.ends for limb in group]) for group in (one, other)]
    gap = float(np.hypot(*(ends[0][:, None] - ends[1][None]).transpose(2, 0, 1)).min())
    return gap / max(float(np.ptp(e, axis=0).max()) for e in ends)


def _joints(
    groups: list[list[Limb]], discs: dict[int, list[Float64s]], skeleton: Skeleton
) -> tuple[Float64s, NDArray[np.uint8]]:
    """Where each person's joints are: the disc, else the end of the limb that was drawn last."""
    n, k = len(groups), len(skeleton)
    xy, seen = np.zeros((n, k, 2)), np.zeros((n, k), np.uint8)
    for i, group in enumerate(groups):
        lines: dict[int, list[tuple[Float64s, Float64s]]] = {}
        for limb in sorted(group, key=lambda x: x.kind):
            length = max(float(np.hypot(*(limb.ends[1] - limb.ends[0]))), 1e-6)
            direction = (limb.ends[1] - limb.ends[0]) / length
            for end, joint, sign in zip(limb.ends, limb.joints, (1, -1), strict=True):
                inset = limb.radius if skeleton is COCO17 else 0.0
                place = end + sign * inset * direction
                place = _disc_near(end, discs.get(joint, ()), 4 * limb.radius + 6, place)
                if skeleton is OPENPOSE18 and joint not in discs:  # a palette may have given it another's color
                    place = _disc_near(end, discs.get(_ANY, ()), 2 * limb.radius + 2, place)
                xy[i, joint], seen[i, joint] = place, 2
                lines.setdefault(joint, []).append((end, direction * np.sqrt(length)))
        for joint, through in lines.items():
            if skeleton is OPENPOSE18 and len(through) >= _CROWDED:  # limbs hide the disc
                xy[i, joint] = _crossing(through, xy[i, joint])
    return xy, seen


def _disc_near(end: Float64s, discs: Sequence[Float64s], reach: float, place: Float64s) -> Float64s:
    """The disc nearest to a limb's end, within reach; else `place`."""
    away = [float(np.hypot(*(disc - end))) for disc in discs]
    return discs[int(np.argmin(away))] if away and min(away) <= reach else place


def _crossing(lines: list[tuple[Float64s, Float64s]], guess: Float64s) -> Float64s:
    """The point nearest to all lines (a point, a direction as long as its weight); `guess` where they are parallel."""
    matrix, right = np.zeros((2, 2)), np.zeros(2)
    for point, direction in lines:
        weight = direction @ direction
        across = weight * np.eye(2) - np.outer(direction, direction)
        matrix += across
        right += across @ point
    if np.linalg.cond(matrix) > 50:
        return guess
    found: Float64s = np.linalg.solve(matrix, right).astype(np.float64)
    return found if np.hypot(*(found - guess)) < 20 else guess
