"""From heatmaps and tags to people: peaks, associative-embedding grouping, refinement, removal of ghosts.

Follows the decoding of associative embedding (Newell et al. 2017, sec. 3.2) as HigherHRNet uses it (sec. 4.1), with a
sub-pixel fit in place of the quarter-pixel shift and a removal of the duplicates that refinement makes. Arrays of one
picture: heatmaps (k, h, w), tags (k, h, w, l), l = 1, or 2 with a flip test.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Floats = NDArray[np.float32]
# Torso and head first: they are found best, and their tags decide whom the limbs join.
JOINT_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)


@dataclass(frozen=True)
class Grouping:
    """How peaks become people. Scores are heatmap values, distances of tags in the units of the tags.

    same_peak: share of a person's joints that sit on the peaks of a surer one from which on it is a ghost.
    same_pose: object keypoint similarity to a surer person from which on it is a duplicate.
    """

    max_people: int = 30
    joint_score: float = 0.1  # a peak below this is none
    tag_distance: float = 1.0
    refined_score: float = 0.05  # least heatmap value of a joint that is filled in
    min_own_joints: int = 3  # before filling in
    person_score: float = 0.1  # mean over all joints; absent ones count 0
    same_peak: float = 0.5
    same_pose: float = 0.85


@dataclass(frozen=True)
class Found:
    """n people of one picture, surest first: xy (n, k, 2) in map pixels, joint score (n, k), 0 where absent, and
    person score (n,)."""

    xy: Floats
    joint_score: Floats
    person_score: Floats


@dataclass(frozen=True)
class Peaks:
    """The `m` highest local maxima of each map of each picture.

    place: (b, k, m, 2) x y in whole pixels; score: (b, k, m); tag: (b, k, m, l).
    """

    place: NDArray[np.int64]
    score: Floats
    tag: Floats


def decode(heatmaps: torch.Tensor, tags: torch.Tensor, sigmas: Floats, rules: Grouping) -> list[Found]:
    """The people of each picture of a batch.

    Args:
        heatmaps: (b, k, h, w), about 0..1.
        tags: (b, k, h, w, l).
        sigmas: (k,) the skeleton's OKS falloffs, for `same_pose`.
    """
    maps, tag_maps = heatmaps.float().cpu().numpy(), tags.float().cpu().numpy()
    peaks = find_peaks(maps, tag_maps, rules.max_people)
    out = []
    for i in range(len(maps)):
        place, score = group(peaks.place[i], peaks.score[i], peaks.tag[i], rules)
        own = (score > 0).sum(axis=1) >= rules.min_own_joints
        place, score = place[own], score[own]
        place, score = fill_in(place, score, maps[i], tag_maps[i], rules)
        person = score.mean(axis=1)
        order = np.argsort(-person, kind="stable")
        order = order[person[order] >= rules.person_score]
        place, score, person = place[order], score[order], person[order]
        kept = without_ghosts(place, score, sigmas, rules)
        place, score, person = place[kept], score[kept], person[kept]
        out.append(Found(subpixel(maps[i], place, score), score, person))
    return out


def find_peaks(heatmaps: Floats, tags: Floats, count: int) -> Peaks:
    """Local maxima over 5 x 5 pixels of heatmaps (b, k, h, w) with tags (b, k, h, w, l)."""
    b, k, h, w = heatmaps.shape
    alone = torch.from_numpy(np.stack([local_maxima(maps, 2) for maps in heatmaps])).flatten(2)
    top = alone.topk(min(count, h * w), dim=2)
    score, index = top.values.numpy(), top.indices.numpy()
    tag = np.take_along_axis(tags.reshape(b, k, h * w, -1), index[..., None], axis=2)
    return Peaks(np.stack([index % w, index // w], axis=-1), score, tag)


def local_maxima(maps: Floats, reach: int) -> Floats:
    """(k, h, w) >= 0 with 0 wherever a higher value lies at most `reach` pixels away on both axes."""
    k, h, w = maps.shape
    # One picture of all maps, rows of nothing between them: a dilation is many times as fast as max pooling on a CPU.
    apart = np.full((k, h + reach, w), -np.inf, np.float32)
    apart[:, :h] = maps
    box = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    highest = cv2.dilate(apart.reshape(-1, w), box).reshape(apart.shape)[:, :h]
    return np.where(maps == highest, maps, np.float32(0))


def group(place: NDArray[np.int64], score: Floats, tag: Floats, rules: Grouping) -> tuple[NDArray[np.int64], Floats]:
    """Peaks of one picture, (k, m, ...), joined into people: place (n, k, 2), score (n, k), 0 where absent.

    Joint by joint, the peaks go to the people with the nearest mean tag, at the least total cost (distance in whole
    units, then score); a peak nearer than `tag_distance` to nobody starts a person.
    """
    k = len(score)
    places = np.zeros((0, k, 2), np.int64)
    scores = np.zeros((0, k), np.float32)
    sums, counts = np.zeros((0, tag.shape[-1])), np.zeros(0)
    for joint in JOINT_ORDER if k == len(JOINT_ORDER) else range(k):
        seen = score[joint] > rules.joint_score
        if not seen.any():
            continue
        peak_tag, peak_score, peak_place = tag[joint, seen], score[joint, seen], place[joint, seen]
        who = np.full(len(peak_score), -1)
        if len(places):
            distance = np.linalg.norm(peak_tag[:, None] - (sums / counts[:, None])[None], axis=2)
            cost = np.round(distance) * 100 - peak_score[:, None]
            rows, columns = linear_sum_assignment(cost)
            near = distance[rows, columns] < rules.tag_distance
            who[rows[near]] = columns[near]
        new = who < 0
        who[new] = len(places) + np.arange(new.sum())
        grow = int(new.sum())
        places = np.concatenate([places, np.zeros((grow, k, 2), np.int64)])
        scores = np.concatenate([scores, np.zeros((grow, k), np.float32)])
        sums = np.concatenate([sums, np.zeros((grow, tag.shape[-1]))])
        counts = np.concatenate([counts, np.zeros(grow)])
        places[who, joint], scores[who, joint] = peak_place, peak_score
        sums[who] += peak_tag
        counts[who] += 1
    order = np.argsort(-scores.sum(axis=1), kind="stable")[: rules.max_people]
    return places[order], scores[order]


def fill_in(
    place: NDArray[np.int64], score: Floats, heatmaps: Floats, tags: Floats, rules: Grouping
) -> tuple[NDArray[np.int64], Floats]:
    """Missing joints from the highest heatmap value whose tag is that of the person (the "refine" of the method)."""
    place, score = place.copy(), score.copy()
    if (score > 0).all():
        return place, score
    joint, y, x = np.nonzero(heatmaps > rules.refined_score)  # in the order of the joints
    heat, tag = heatmaps[joint, y, x], tags[joint, y, x]
    ends = np.searchsorted(joint, np.arange(len(heatmaps) + 1))
    for person in range(len(place)):
        own = np.flatnonzero(score[person] > 0)
        mean = tags[own, place[person, own, 1], place[person, own, 0]].mean(axis=0)
        for missing in np.flatnonzero(score[person] == 0):
            start, end = ends[missing], ends[missing + 1]
            away = np.sqrt(((tag[start:end] - mean) ** 2).sum(axis=1))
            value = np.where(away < rules.tag_distance, heat[start:end] - np.round(away), -np.inf)
            if len(value) and value.max() > -np.inf:
                best = start + value.argmax()
                place[person, missing], score[person, missing] = (x[best], y[best]), heat[best]
    return place, score


def without_ghosts(place: NDArray[np.int64], score: Floats, sigmas: Floats, rules: Grouping) -> NDArray[np.int64]:
    """Indices of the people, surest first as given, who neither sit on a surer one's peaks nor repeat its pose."""
    n = len(place)
    seen = score > 0
    both = seen[:, None] & seen[None]
    gap2 = ((place[:, None] - place[None]) ** 2).sum(axis=3).astype(np.float64)
    shared = (both & (gap2 <= 2)).sum(axis=2) / np.maximum(seen.sum(axis=1), 1)[:, None]
    likeness = np.exp(-gap2 / (2 * (2 * sigmas) ** 2 * _areas(place, seen)[None, :, None]))
    alike = (likeness * both).sum(axis=2) / np.maximum(both.sum(axis=2), 1)
    alike = np.where(both.sum(axis=2) >= rules.min_own_joints, alike, 0)
    kept: list[int] = []
    for i in range(n):
        if not any(shared[i, j] >= rules.same_peak or alike[i, j] >= rules.same_pose for j in kept):
            kept.append(i)
    return np.array(kept, np.int64)


def _areas(place: NDArray[np.int64], seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Area of the box of each person's joints, map pixels squared, at least 1."""
    low = np.where(seen[..., None], place, np.iinfo(np.int64).max).min(axis=1)
    high = np.where(seen[..., None], place, np.iinfo(np.int64).min).max(axis=1)
    size = np.where(seen.any(axis=1, keepdims=True), high - low, 0)
    return np.maximum(size.prod(axis=1).astype(np.float64), 1.0)


def subpixel(heatmaps: Floats, place: NDArray[np.int64], score: Floats) -> Floats:
    """Places (n, k, 2) in fractions of a pixel: the vertex of a parabola through the logarithm of the peak and its two
    neighbours on each axis, exact for a Gaussian; at most half a pixel, and unmoved at the border."""
    k, h, w = heatmaps.shape
    out = place.astype(np.float32)
    joint = np.broadcast_to(np.arange(k), place.shape[:2])
    x, y = place[..., 0], place[..., 1]
    inside = (x > 0) & (x < w - 1) & (y > 0) & (y < h - 1) & (score > 0)
    j, x, y = joint[inside], x[inside], y[inside]

    def log(dx: int, dy: int) -> Floats:
        return np.log(np.maximum(heatmaps[j, y + dy, x + dx], 1e-6))

    here = log(0, 0)
    for axis, (dx, dy) in enumerate(((1, 0), (0, 1))):
        before, after = log(-dx, -dy), log(dx, dy)
        bend = before - 2 * here + after
        shift = np.where(bend < -1e-6, 0.5 * (before - after) / np.minimum(bend, -1e-6), 0)
        out[..., axis][inside] += np.clip(shift, -0.5, 0.5)
    return out
