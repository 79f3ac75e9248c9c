"""CAP, the pose cosine similarity AP (HumanSD sec. 5.1): AP as COCO computes it, with the cosine of two poses for OKS.

Place and size of a pose do not count: both poses are centred on their common joints and scaled to unit norm
(`pose.compare.pose_cosine`). Any two upright people are somewhat alike, so publish `shuffled_scores` beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from humansd.core.arrays import Float64s
from humansd.metrics.errors import MetricWarning
from humansd.metrics.keypoint_ap import check_canvas, person_scores
from humansd.pose.compare import cosines
from humansd.pose.people import People
from humansd.pose.skeleton import COCO17

Ints = NDArray[np.int64]
Pairs = Sequence[tuple[People, People]]
THRESHOLDS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 20  # of an image, as in COCO
RECALLS = np.linspace(0.0, 1.0, 101)
SIGMAS = np.array(COCO17.sigmas)
_PAIRS_AT_ONCE = 1 << 14  # bounds the memory


@dataclass(frozen=True)
class SimilarityScores:
    """AP in 0..1, NaN where nobody was wanted.

    cap: mean over cosines 0.50:0.05:0.95; cap50, cap75: at one threshold; recall: mean over the thresholds.
    n_images, n_people: what was wanted and counts.
    """

    cap: float
    cap50: float
    cap75: float
    recall: float
    n_images: int
    n_people: int


@dataclass(frozen=True)
class SimilarityState:
    """The detections of any number of images, matched: AP needs them all, so it is never a mean over batches.

    scores: (d,) of each detection, in 0..1, image by image; hits: (d, 10) bool, whether it found somebody at each
    threshold; n_found, n_wanted: (images,) detections and wanted people of each image.
    """

    scores: Float64s
    hits: NDArray[np.bool_]
    n_found: Ints
    n_wanted: Ints

    @classmethod
    def of(cls, pairs: Pairs, *, paper: bool = False) -> SimilarityState:
        """Match people image by image as COCO does: the surest 20 in turn, each to the most similar who is free.

        Args:
            pairs: (wanted, found) of each image, on one canvas, in any skeleton that knows COCO-17's joints. A wanted
                person without a shape to compare (fewer than two labelled joints, or all in one place) is ignored; a
                found one is a false detection.
            paper: `published_cosines` instead of the correct cosine, only to compare with old tables.

        Raises:
            PoseError: a pair with different canvases.
        """
        pairs = _on_coco17(pairs)
        wanted = _Flat.of([people for people, _ in pairs]).shaped(paper)
        found = _Flat.of([people for _, people in pairs]).surest()
        hits = np.zeros((len(found.xy), len(THRESHOLDS)), bool)
        kinds, kind_of = np.unique(np.stack([wanted.counts, found.counts]), axis=1, return_inverse=True)
        for kind, (w, f) in enumerate(kinds.T):  # images with as many people are computed together
            if w and f:
                images = np.flatnonzero(kind_of.ravel() == kind)
                for some in np.array_split(images, -(-len(images) * w * f // _PAIRS_AT_ONCE)):
                    who, whom = wanted.indices(some), found.indices(some)
                    hits[whom] = _match(_likeness(wanted, who, found, whom, paper))
        return cls(found.scores, hits, found.counts, wanted.counts)

    def merge(self, other: SimilarityState) -> SimilarityState:
        """The state of both sets of images together."""
        return SimilarityState(
            np.concatenate([self.scores, other.scores]),
            np.concatenate([self.hits, other.hits]),
            np.concatenate([self.n_found, other.n_found]),
            np.concatenate([self.n_wanted, other.n_wanted]),
        )

    def compute(self) -> SimilarityScores:
        """The scores; a `MetricWarning` where nobody was wanted (NaN) and where nobody was found (0)."""
        n_people = int(self.n_wanted.sum())
        if not n_people or not len(self.scores):
            text = "nobody was found, so CAP is 0" if n_people else "nobody was wanted, so CAP is NaN"
            warnings.warn(text, MetricWarning, stacklevel=2)
        ap, recall = self._curves(np.ones(len(self.n_wanted), np.int64))
        return SimilarityScores(
            float(ap.mean()), float(ap[0]), float(ap[5]), float(recall.mean()), len(self.n_wanted), n_people
        )

    def cap(self, draws: Ints) -> float:
        """CAP with each image as often as `draws` (images,) says; a statistic for `metrics.bootstrap`."""
        return float(self._curves(draws)[0].mean())

    @cached_property
    def _order(self) -> Ints:
        """(10, d) detections by descending score. Equal scores: misses first, so that images may come in any order.

        No threshold on the score can part equals, and this order gives them all the precision of the last of them.
        """
        return np.stack([np.lexsort((hit, -self.scores)) for hit in self.hits.T])

    def _curves(self, draws: Ints) -> tuple[Float64s, Float64s]:
        """AP and recall (10,) at each threshold, as COCOeval.accumulate has them."""
        total = int(draws @ self.n_wanted)
        if not total:
            nothing = np.full(len(THRESHOLDS), np.nan)
            return nothing, nothing
        weight = np.repeat(draws, self.n_found)[self._order]
        hit = np.take_along_axis(self.hits.T, self._order, axis=1)
        true, false = np.cumsum(weight * hit, axis=1), np.cumsum(weight * ~hit, axis=1)
        recall, precision = true / total, true / np.maximum(true + false, 1)
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        precision = np.pad(precision, ((0, 0), (0, 1)))  # 0 where a recall is never reached
        ap = [p[np.searchsorted(r, RECALLS)].mean() for p, r in zip(precision, recall, strict=True)]
        return np.array(ap), recall[:, -1] if recall.shape[1] else np.zeros(len(THRESHOLDS))


def similarity_scores(pairs: Pairs, *, paper: bool = False) -> SimilarityScores:
    """CAP of all images together; arguments as in `SimilarityState.of`."""
    return SimilarityState.of(pairs, paper=paper).compute()


def shuffled_scores(pairs: Pairs, *, seed: int = 0, paper: bool = False) -> SimilarityScores:
    """CAP of the same images after the found people's poses have changed places at random: what chance scores.

    With fewer than 2 images there is nobody to change with: NaN and a `MetricWarning`.
    """
    if len(pairs) < 2:
        warnings.warn("poses of fewer than 2 images cannot be shuffled", MetricWarning, stacklevel=2)
        n_people = similarity_scores(pairs, paper=paper).n_people if pairs else 0
        return SimilarityScores(*(float("nan"),) * 4, len(pairs), n_people)
    return similarity_scores(shuffled_pairs(pairs, seed=seed), paper=paper)


def shuffled_pairs(pairs: Pairs, *, seed: int = 0) -> list[tuple[People, People]]:
    """2 images or more, after the found people's poses have changed places at random.

    The number of people in an image and their scores stay, so the poses alone are wrong.
    """
    found = [people.to_skeleton(COCO17) for _, people in pairs]
    xy, seen = (np.concatenate([getattr(one, name) for one in found]) for name in ("xy", "visibility"))
    order = np.random.default_rng(seed).permutation(len(xy))
    donor = np.empty_like(order)
    donor[order] = np.roll(order, 1)  # one large circle, so nobody keeps a pose
    ends = np.cumsum([one.n for one in found])
    strangers = [
        People(
            xy[who],
            one.score,
            seen[who],
            one.canvas,
            COCO17,
            extras=tuple({"score": float(s)} for s in person_scores(one)),
        )
        for one, who in zip(found, np.split(donor, ends[:-1]), strict=True)
    ]
    return [(wanted, other) for (wanted, _), other in zip(pairs, strangers)]


def published_cosines(wanted_xy: Float64s, wanted_seen: NDArray[np.bool_], found_xy: Float64s) -> Float64s:
    """The similarity of the published evaluation, defects included, float64 (...); only to compare with old tables.

    xy: (..., 17, 2) pixels of the whole canvas; wanted_seen: (..., 17) bool, which joints count. Coordinates are first
    divided by the joints' sigmas, so the place counts after all; then x and y are each min-max normalised and scaled
    to unit norm; then the found y is replaced by the found x. Nothing is negative, so most poses pass 0.5, and
    identical ones do not reach 1. NaN where x or y of all joints is the same.
    """
    a, b = (_unit_range(xy / SIGMAS[:, None], wanted_seen) for xy in (wanted_xy, found_xy))
    return np.asarray((a.sum(axis=-1) * b[..., 0]).sum(axis=-1) / 2)


def _unit_range(points: Float64s, seen: NDArray[np.bool_]) -> Float64s:
    """x and y each from 0 at the smallest seen value, scaled to unit norm; 0 where not seen."""
    there = seen[..., None]
    low = np.where(there, points, np.inf).min(axis=-2, keepdims=True)
    moved = np.where(there, points - low, 0.0)
    norm = np.sqrt((moved**2).sum(axis=-2, keepdims=True))
    return np.asarray(moved / np.where(norm > 0, norm, np.nan))


@dataclass(frozen=True)
class _Flat:
    """People of all images in a row: xy (n, 17, 2), seen (n, 17), scores (n,); counts (images,)."""

    xy: Float64s
    seen: NDArray[np.bool_]
    scores: Float64s
    counts: Ints

    @classmethod
    def of(cls, images: Sequence[People]) -> _Flat:
        k = len(COCO17)
        return cls(
            np.concatenate([np.zeros((0, k, 2)), *(people.xy for people in images)]),
            np.concatenate([np.zeros((0, k), np.uint8), *(people.visibility for people in images)]) > 0,
            np.concatenate([np.zeros(0), *(person_scores(people) for people in images)]),
            np.array([people.n for people in images], np.int64),
        )

    def keep(self, order: Ints) -> _Flat:
        """The people at `order`, which goes from image to image."""
        image = np.repeat(np.arange(len(self.counts)), self.counts)[order]
        counts = np.bincount(image, minlength=len(self.counts))
        return _Flat(self.xy[order], self.seen[order], self.scores[order], counts)

    def shaped(self, paper: bool) -> _Flat:
        """Only those who have a shape; in the published evaluation, those with a joint, as in COCO."""
        kept = self.seen.any(axis=1) if paper else ~np.isnan(cosines(self.xy, self.seen, self.xy, self.seen))
        return self.keep(np.flatnonzero(kept))

    def surest(self) -> _Flat:
        """The surest 20 of each image, surest first, equals as they came."""
        image = np.repeat(np.arange(len(self.counts)), self.counts)
        order = np.lexsort((-self.scores, image))
        rank = np.arange(len(order)) - np.repeat(np.cumsum(self.counts) - self.counts, self.counts)
        return self.keep(order[rank < MAX_DETECTIONS])

    def indices(self, images: Ints) -> Ints:
        """(images, people) rows of the people of images that have as many."""
        starts = np.cumsum(self.counts) - self.counts
        return np.asarray(starts[images][:, None] + np.arange(self.counts[images[0]]))


def _likeness(wanted: _Flat, who: Ints, found: _Flat, whom: Ints, paper: bool) -> Float64s:
    """(images, f, w) similarity of everybody found in an image with everybody wanted there."""
    a_xy, a_seen = wanted.xy[who][:, None], wanted.seen[who][:, None]
    b_xy, b_seen = found.xy[whom][:, :, None], found.seen[whom][:, :, None]
    return published_cosines(a_xy, a_seen, b_xy) if paper else cosines(a_xy, a_seen, b_xy, b_seen)


def _match(likeness: Float64s) -> NDArray[np.bool_]:
    """(images, f, 10) whether each found person gets somebody at each threshold; likeness: (images, f, w).

    NaN is like nobody. Of equally similar people the last is taken, as in COCOeval.evaluateImg.
    """
    m, f, w = likeness.shape
    free = np.ones((m, len(THRESHOLDS), w), bool)
    hits = np.zeros((m, f, len(THRESHOLDS)), bool)
    for i in range(f):
        here = likeness[:, i, None, :]
        candidates = np.where(free & (here >= THRESHOLDS[:, None]), here, -np.inf)
        best = w - 1 - candidates[..., ::-1].argmax(axis=-1)
        hits[:, i] = candidates.max(axis=-1) > -np.inf
        free &= ~(hits[:, i, :, None] & (np.arange(w) == best[..., None]))
    return hits


def _on_coco17(pairs: Pairs) -> list[tuple[People, People]]:
    for number, (wanted, found) in enumerate(pairs, start=1):
        check_canvas(number, wanted, found)
    return [(wanted.to_skeleton(COCO17), found.to_skeleton(COCO17)) for wanted, found in pairs]
