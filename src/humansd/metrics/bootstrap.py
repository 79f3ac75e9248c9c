"""How sure a number is: bootstrap intervals over images, and two models compared on the same images.

A statistic is a function of `draws`, (n_images,) whole numbers: how often each image is in a drawn set. Ones are
the data set itself. So one interface serves means (`mean_of`), AP (`SimilarityState.cap`), and any function of a set of
images (`lambda draws: f(np.repeat(np.arange(n), draws))`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from humansd.metrics.errors import MetricWarning

Draws = NDArray[np.int64]
Statistic = Callable[[Draws], float]


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its percentile interval, in the unit of the statistic."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """The first model's value minus the second's, its interval, and the two-sided p that there is no difference."""

    difference: float
    low: float
    high: float
    p: float


def mean_of(values: ArrayLike) -> Statistic:
    """The mean over images of values (n_images,); an image with NaN has no value and does not count."""
    numbers = np.asarray(values, np.float64)
    counted = ~np.isnan(numbers)
    numbers = np.where(counted, numbers, 0.0)

    def mean(draws: Draws) -> float:
        weight = draws @ counted
        return float(draws @ numbers / weight) if weight else float("nan")

    return mean


def mean_statistic(statistics: Sequence[Statistic]) -> Statistic:
    """The mean of some statistics on the same draws."""
    return lambda draws: float(np.mean([statistic(draws) for statistic in statistics]))


def bootstrap_interval(
    statistic: Statistic,
    n_images: int,
    *,
    n_draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    biased: bool = False,
) -> Interval:
    """Percentile interval of a statistic over images drawn with replacement (Efron and Tibshirani 1993, sec. 13.3).

    biased: the statistic grows where images are drawn twice, as distances between distributions do, so its draws lie
    beside its value; they are moved until their median is the value.

    NaN ends with a `MetricWarning` with fewer than 2 images. Draws in which the statistic is NaN are left out, with a
    `MetricWarning` too.

    Raises:
        ValueError: n_draws below 1, or a confidence outside 0..1.
    """
    _check(n_draws, confidence)
    value = _whole(statistic, n_images)
    if n_images < 2:
        return _no_interval(value, n_images)
    drawn = np.array([statistic(draws) for draws in _draws(n_images, n_draws, seed)])
    return Interval(value, *_ends(_centred(drawn, value) if biased else drawn, confidence))


def paired_comparison(
    first: Statistic,
    second: Statistic,
    n_images: int,
    *,
    n_draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    biased: bool = False,
) -> Comparison:
    """Two models on the same images (same order, poses and seeds), each draw serving both.

    What makes an image hard for both cancels, so small differences show. What a `biased` statistic grows by does not:
    it depends on how much a model's images vary; see `bootstrap_interval`.

    p is twice the smaller share of draws whose difference lies on one side of 0 (0 itself on both), counting one more
    draw than were made, so it is never 0. NaN and errors as in `bootstrap_interval`.
    """
    _check(n_draws, confidence)
    value = _whole(first, n_images) - _whole(second, n_images)
    if n_images < 2:
        alone = _no_interval(value, n_images)
        return Comparison(alone.value, alone.low, alone.high, float("nan"))
    drawn = np.array([first(draws) - second(draws) for draws in _draws(n_images, n_draws, seed)])
    if biased:
        drawn = _centred(drawn, value)
    low, high = _ends(drawn, confidence)
    counted = drawn[~np.isnan(drawn)]
    rarer = min((counted <= 0).sum(), (counted >= 0).sum())
    p = min(1.0, 2 * (rarer + 1) / (len(counted) + 1)) if len(counted) else float("nan")
    return Comparison(value, low, high, float(p))


def _check(n_draws: int, confidence: float) -> None:
    if n_draws < 1 or not 0 < confidence < 1:
        raise ValueError(f"{n_draws} draws at confidence {confidence}: needs 1 or more, between 0 and 1")


def _whole(statistic: Statistic, n_images: int) -> float:
    return float(statistic(np.ones(n_images, np.int64))) if n_images else float("nan")


def _no_interval(value: float, n_images: int) -> Interval:
    warnings.warn(f"an interval over {n_images} images is NaN", MetricWarning, stacklevel=3)
    return Interval(value, float("nan"), float("nan"))


def _draws(n_images: int, n_draws: int, seed: int) -> Iterator[Draws]:
    rng = np.random.default_rng(seed)
    for _ in range(n_draws):
        yield np.bincount(rng.integers(n_images, size=n_images), minlength=n_images)


def _centred(drawn: NDArray[np.float64], value: float) -> NDArray[np.float64]:
    return drawn if np.isnan(drawn).all() else drawn - (np.nanmedian(drawn) - value)


def _ends(drawn: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    counted = drawn[~np.isnan(drawn)]
    if len(counted) < len(drawn):
        text = f"the statistic is NaN in {len(drawn) - len(counted)} of {len(drawn)} draws: left out"
        warnings.warn(text, MetricWarning, stacklevel=3)
    if not len(counted):
        return float("nan"), float("nan")
    low, high = np.quantile(counted, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
