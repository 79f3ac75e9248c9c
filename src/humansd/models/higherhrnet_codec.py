"""HigherHRNet's codec: people to places on its maps, which it learns, and its maps to people.

`joint_places` are the targets of the tags; those of the heatmaps are `models.heatmap_targets`. `decode` finds peaks,
groups them by their tags, fills in missing joints and removes ghosts. It follows the decoding of associative embedding
(Newell et al. 2017, sec. 3.2) as HigherHRNet uses it (sec. 4.1), with a sub-pixel fit in place of the quarter-pixel
shift and a removal of the duplicates that refinement makes. Arrays of one image: heatmaps (k, h, w), tags
(k, h / r, w / r, l), l = 1, or 2 with a flip test. Tags are looked up, bilinearly, at the few places that matter; to
enlarge their maps first takes many times as long.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from humansd.core.arrays import Float32s
from humansd.models.heatmap_targets import MAX_PEOPLE
from humansd.models.peaks import Index, local_maxima, subpixel
from humansd.pose.people import People

# Torso and head first: they are found best, and their tags decide whom the limbs join.
JOINT_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)


@dataclass(frozen=True)
class Grouping:
    """How peaks become people. Scores are heatmap values, distances of tags in the units of the tags.

    same_peak: share of a person's joints that sit on the peaks of a surer one from which on it is a ghost.
    same_pose: object keypoint similarity to a surer person from which on it is a duplicate.
    """

    max_people: int = 30  # of an image, and peaks of a joint
    joint_score: float = 0.1  # a peak below this is none
    tag_distance: float = 1.0  # to a person's mean tag, from which on a peak is of somebody else
    refined_score: float = 0.05  # least heatmap value of a joint that is filled in
    min_own_joints: int = 3  # before filling in
    person_score: float = 0.1  # mean over all joints; absent ones count 0
    same_peak: float = 0.5
    same_pose: float = 0.85


@dataclass(frozen=True)
class Found:
    """n people of one image, surest first: xy (n, k, 2) in map pixels, joint score (n, k), 0 where absent, and
    person score (n,)."""

    xy: Float32s
    joint_score: Float32s
    person_score: Float32s


@dataclass(frozen=True)
class Peaks:
    """The local maxima of the maps of one image, in the order of the joints, surest first.

    place: (m, 2) x y in whole pixels; score: (m,); tag: (m, l); ends: (k + 1,), joint j has those from ends[j] to
    ends[j + 1].
    """

    place: Index
    score: Float32s
    tag: Float32s
    ends: Index


def joint_places(people: People, stride: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Flat positions y * w + x on the maps, (MAX_PEOPLE, 17), and which of them hold a joint."""
    width, height = (side // stride for side in people.canvas)
    small = _on_pixels(people.resize(width, height))
    places = np.zeros((MAX_PEOPLE, 17), np.int64)
    seen = np.zeros((MAX_PEOPLE, 17), bool)
    n = min(people.n, MAX_PEOPLE)
    x, y = (np.clip(small.xy[:n, :, axis], 0, side - 1) for axis, side in ((0, width), (1, height)))
    places[:n] = (y * width + x).astype(np.int64)
    seen[:n] = small.labelled[:n]
    return np.where(seen, places, 0), seen


def _on_pixels(people: People) -> People:
    """The same people with every joint on the nearest pixel centre."""
    return People(
        np.rint(people.xy), people.score, people.visibility, people.canvas, people.skeleton, people.area, people.extras
    )


def decode(heatmaps: torch.Tensor, tags: torch.Tensor, sigmas: Float32s, rules: Grouping) -> list[Found]:
    """The people of each image of a batch.

    Args:
        heatmaps: (b, k, h, w), about 0..1.
        tags: (b, k, h / r, w / r, l), r a whole number.
        sigmas: (k,) the skeleton's OKS falloffs, for `same_pose`.
    """
    out = []
    for maps, tag_maps in zip(heatmaps.float().cpu().numpy(), tags.float().cpu().numpy(), strict=True):
        place, score, tag = group(find_peaks(maps, tag_maps, rules), rules)
        own = (score > 0).sum(axis=1) >= rules.min_own_joints
        place, score = fill_in(place[own], score[own], tag[own], maps, tag_maps, rules)
        person = score.mean(axis=1)
        order = np.argsort(-person, kind="stable")
        order = order[person[order] >= rules.person_score]
        place, score, person = place[order], score[order], person[order]
        kept = without_ghosts(place, score, sigmas, rules)
        place, score, person = place[kept], score[kept], person[kept]
        out.append(Found(subpixel(maps, place, score), score, person))
    return out


def find_peaks(heatmaps: Float32s, tags: Float32s, rules: Grouping) -> Peaks:
    """Local maxima over 5 x 5 pixels, above `joint_score`, the `max_people` highest of each joint, highest first."""
    joint, y, x = local_maxima(heatmaps, 2, rules.joint_score)
    score = heatmaps[joint, y, x]
    order = np.lexsort((-score, joint))
    first = np.searchsorted(joint, np.arange(len(heatmaps)))
    order = order[np.arange(len(joint)) - first[joint] < rules.max_people]
    joint, y, x, score = joint[order], y[order], x[order], score[order]
    ends = np.searchsorted(joint, np.arange(len(heatmaps) + 1))
    return Peaks(np.stack([x, y], axis=1), score, tags_at(tags, joint, x, y, heatmaps.shape), ends)


def tags_at(tags: Float32s, joint: Index, x: Index, y: Index, shape: tuple[int, ...]) -> Float32s:
    """(m, l): the tag maps (k, h / r, w / r, l), enlarged bilinearly to `shape` (k, h, w), at m places."""
    rows, columns = tags.shape[1:3]
    if (rows, columns) == tuple(shape[1:]):
        return tags[joint, y, x]
    (top, bottom, down), (left, right, along) = (
        _between(place, side, whole) for place, side, whole in ((y, rows, shape[1]), (x, columns, shape[2]))
    )
    flat, first = tags.reshape(-1, tags.shape[3]), joint * rows
    (upper, lower) = ((first + line) * columns for line in (top, bottom))
    here, there = flat.take(upper + left, axis=0), flat.take(upper + right, axis=0)
    over = here + (there - here) * along
    here, there = flat.take(lower + left, axis=0), flat.take(lower + right, axis=0)
    under = here + (there - here) * along
    return np.asarray(over + (under - over) * down, np.float32)


def _between(place: Index, side: int, whole: int) -> tuple[Index, Index, Float32s]:
    """The pixels of `side` before and after a pixel of `whole`, and the share (m, 1) of the latter."""
    exact = np.maximum((place.astype(np.float32) + np.float32(0.5)) * np.float32(side / whole) - np.float32(0.5), 0)
    before = exact.astype(np.int64)
    return before, np.minimum(before + 1, side - 1), (exact - before)[:, None]


def group(peaks: Peaks, rules: Grouping) -> tuple[Index, Float32s, Float32s]:
    """Peaks of one image joined into people: place (n, k, 2), score (n, k), 0 where absent, and mean tag (n, l).

    Joint by joint, the peaks go to people with a near mean tag, sure peaks to those with many sure joints, at the least
    total cost; a peak nearer than `tag_distance` to nobody starts a person. The published cost, whole units of distance
    less the peak's score, leaves it to the order of the peaks who gets which where tags are hardly apart.
    """
    k, most = len(peaks.ends) - 1, len(peaks.score)  # every peak may be a person of its own
    places, scores = np.zeros((most, k, 2), np.int64), np.zeros((most, k), np.float32)
    sums, counts = np.zeros((most, peaks.tag.shape[1]), np.float32), np.zeros((most, 1), np.float32)
    n = 0
    for joint in JOINT_ORDER if k == len(JOINT_ORDER) else range(k):
        these = slice(peaks.ends[joint], peaks.ends[joint + 1])
        score, tag = peaks.score[these], peaks.tag[these]
        if not len(score):
            continue
        who = np.full(len(score), -1)
        if n:
            away = tag[:, None] - sums[:n] / counts[:n]
            distance = np.sqrt((away * away).sum(axis=2))
            rows, columns = linear_sum_assignment(distance - score[:, None] * scores[:n].sum(axis=1))
            near = distance[rows, columns] < rules.tag_distance
            who[rows[near]] = columns[near]
        new = np.flatnonzero(who < 0)
        who[new] = np.arange(n, n + len(new))
        n += len(new)
        places[who, joint], scores[who, joint] = peaks.place[these], score
        sums[who] += tag
        counts[who] += 1
    order = np.argsort(-scores[:n].sum(axis=1), kind="stable")[: rules.max_people]
    return places[order], scores[order], sums[order] / counts[order]


def fill_in(
    place: Index, score: Float32s, tag: Float32s, heatmaps: Float32s, tags: Float32s, rules: Grouping
) -> tuple[Index, Float32s]:
    """Missing joints from the highest heatmap value whose tag is that of the person (the "refine" of the method).

    place: (n, k, 2), score: (n, k) and tag: (n, l), as of `group`.
    """
    absent = np.argwhere(score == 0)
    if not len(absent):
        return place, score
    place, score = place.copy(), score.copy()
    wanted = np.unique(absent[:, 1])
    index = np.flatnonzero(heatmaps[wanted] > rules.refined_score)
    h, w = heatmaps.shape[1:]
    row, y, x = index // (h * w), index // w % h, index % w
    joint = wanted[row]
    heat = heatmaps[joint, y, x]
    theirs = tags_at(tags, joint, x, y, heatmaps.shape)
    away = np.sqrt(sum(np.square(theirs[:, i] - tag[:, i, None]) for i in range(tag.shape[1])))  # (n, candidates)
    value = np.where(away < rules.tag_distance, heat - np.rint(away), -np.inf)
    ends = np.searchsorted(joint, np.arange(len(heatmaps) + 1))
    for person, missing in absent:
        start, end = ends[missing], ends[missing + 1]
        if start == end:
            continue
        best = start + value[person, start:end].argmax()
        if value[person, best] > -np.inf:
            place[person, missing], score[person, missing] = (x[best], y[best]), heat[best]
    return place, score


def without_ghosts(place: Index, score: Float32s, sigmas: Float32s, rules: Grouping) -> Index:
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


def _areas(place: Index, seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Area of the box of each person's joints, map pixels squared, at least 1."""
    low = np.where(seen[..., None], place, np.iinfo(np.int64).max).min(axis=1)
    high = np.where(seen[..., None], place, np.iinfo(np.int64).min).max(axis=1)
    size = np.where(seen.any(axis=1, keepdims=True), high - low, 0)
    return np.maximum(size.prod(axis=1).astype(np.float64), 1.0)
