"""PCE, the people count error (HumanSD sec. 5.1): how far the number of people is from the wanted one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from humansd.metrics.errors import MetricWarning
from humansd.metrics.keypoint_ap import person_scores
from humansd.pose.people import People


def count_errors(pairs: Sequence[tuple[People, People]], threshold: float) -> NDArray[np.int64]:
    """(n_images,) found minus wanted people of each image; images of nobody count like all others.

    Args:
        pairs: (wanted, found) of each image. A wanted person without labelled joints is not counted: no model is
            shown such a person.
        threshold: found people with a score of at least this count (`person_scores`, 0..1). 0 counts every
            detection, as the published evaluation does.

    Raises:
        ValueError: a threshold outside 0..1.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"the threshold is {threshold}, expected a score in 0..1")
    errors = [
        int((person_scores(found) >= threshold).sum()) - int(wanted.labelled.any(axis=1).sum())
        for wanted, found in pairs
    ]
    return np.array(errors, np.int64)


@dataclass(frozen=True)
class CountState:
    """What PCE needs to know of any number of images: whole numbers, so that merging is exact.

    total_error: sum of absolute differences; total_surplus: sum of signed ones (found minus wanted).
    """

    total_error: int = 0
    total_surplus: int = 0
    n_images: int = 0

    def update(self, pairs: Sequence[tuple[People, People]], threshold: float) -> CountState:
        """The state with these images added; arguments as in `count_errors`."""
        errors = count_errors(pairs, threshold)
        return self.merge(CountState(int(np.abs(errors).sum()), int(errors.sum()), len(errors)))

    def merge(self, other: CountState) -> CountState:
        """The state of both sets of images together."""
        return CountState(
            self.total_error + other.total_error,
            self.total_surplus + other.total_surplus,
            self.n_images + other.n_images,
        )

    def compute(self) -> CountScores:
        """PCE; NaN and a `MetricWarning` without images."""
        if not self.n_images:
            warnings.warn("no images, so the people count error is NaN", MetricWarning, stacklevel=2)
            return CountScores(float("nan"), float("nan"), 0)
        return CountScores(self.total_error / self.n_images, self.total_surplus / self.n_images, self.n_images)


@dataclass(frozen=True)
class CountScores:
    """pce: mean absolute difference, people per image, 0 is best. surplus: mean of found minus wanted people."""

    pce: float
    surplus: float
    n_images: int


def count_scores(pairs: Sequence[tuple[People, People]], threshold: float) -> CountScores:
    """PCE of all images together; arguments as in `count_errors`."""
    return CountState().update(pairs, threshold).compute()
