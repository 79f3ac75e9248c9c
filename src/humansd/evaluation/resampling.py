"""The metrics of a run as functions of how often each image is drawn, and their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from humansd.core.arrays import Float64s
from humansd.evaluation.records import Record, Run
from humansd.evaluation.sides import of_place, sides_of
from humansd.metrics.bootstrap import Draws, Statistic, bootstrap_interval, mean_of
from humansd.metrics.counting import count_errors
from humansd.metrics.distances import Moments, frechet_distance
from humansd.metrics.keypoint_ap import KeypointState
from humansd.metrics.similarity_ap import SimilarityState

WIDEST_DRAWN = 256  # a Frechet distance of wider features takes too long to be drawn a thousand times
DISTANCE_DRAWS = 200


@dataclass(frozen=True)
class Resampled:
    """A metric over all images as a function of how often each is drawn.

    statistic: that function. n_draws: how many it can afford. biased: as of `metrics.bootstrap.bootstrap_interval`.
    """

    statistic: Statistic
    n_draws: int = 1000
    biased: bool = False


def statistics(run: Run, threshold: float) -> dict[str, Resampled]:
    """Each metric of the generated images that can be drawn; what has no value of these images is left out."""
    generated, _ = sides_of(run)
    state = KeypointState.of(generated.pairs)
    found = {
        "ap": Resampled(state.statistic()),
        "ap_medium": Resampled(state.statistic("medium")),
        "cap": Resampled(SimilarityState.of(generated.pairs).cap),
        "pce": Resampled(mean_of(np.abs(count_errors(generated.pairs, threshold)))),
        "clipsim": Resampled(mean_of(generated.texts)),
    }
    for place in (0, 2):
        right, named = _colors_of(run.records, place)
        found[f"color person {place}" if place else "color"] = Resampled(_share_of(right, named))
    whole = np.ones(len(run.records), np.int64)
    for name in ("ap_medium", "clipsim", "color", "color person 2"):
        if math.isnan(found[name].statistic(whole)):
            del found[name]
    for name, (first, second) in run.features.items():
        if first.shape[1] <= WIDEST_DRAWN:
            found[f"frechet {name}"] = Resampled(_frechet_of(first, second), DISTANCE_DRAWS, biased=True)
    return found


def intervals(run: Run, threshold: float) -> dict[str, list[float]]:
    """The ends of each metric's 95 % interval over images drawn with replacement."""
    found = {}
    for name, one in statistics(run, threshold).items():
        interval = bootstrap_interval(one.statistic, len(run.records), n_draws=one.n_draws, biased=one.biased)
        found[name] = [interval.low, interval.high]
    return found


def _colors_of(records: Sequence[Record], place: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tops of each image that have the color which was named, and tops of which one was named, (n_images,) each."""
    right, named = np.zeros(len(records), np.int64), np.zeros(len(records), np.int64)
    for row, record in enumerate(records):
        for top in of_place(record.colors, place):
            named[row] += 1
            right[row] += top.found == top.named
    return right, named


def _share_of(right: NDArray[np.int64], counts: NDArray[np.int64]) -> Statistic:
    """The share of what is right of what there is, both (n_images,)."""

    def share(draws: Draws) -> float:
        total = draws @ counts
        return float(draws @ right / total) if total else float("nan")

    return share


def _frechet_of(generated: Float64s, real: Float64s) -> Statistic:
    def statistic(draws: Draws) -> float:
        rows = np.repeat(np.arange(len(draws)), draws)
        return frechet_distance(moments_of(generated[rows]), moments_of(real[rows]))

    return statistic


def moments_of(features: Float64s) -> Moments:
    """Mean and covariance of features (n, d)."""
    return Moments.empty(features.shape[1]).update(features)
