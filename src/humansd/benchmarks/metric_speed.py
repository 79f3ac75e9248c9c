"""How fast the metrics are, side by side with the textbook's way in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.linalg import sqrtm

from humansd.core.markdown import markdown_table
from humansd.metrics.counting import count_scores
from humansd.metrics.distances import Moments, frechet_distance
from humansd.metrics.keypoint_ap import keypoint_scores
from humansd.metrics.similarity_ap import similarity_scores
from humansd.pose.people import People

CANVAS = (512, 512)
BATCH = 1000  # rows of features that are added at once


def benchmark_metrics(images: int = 5000, features: int = 10_000, width: int = 2048) -> str:
    """A table of seconds: pose metrics of `images` with 1 to 3 people, and the Frechet distance of two sets of
    `features` x `width`, also by SciPy's `sqrtm`.

    Raises:
        ValueError: a count below 2.
    """
    for name, value in (("images", images), ("features", features), ("width", width)):
        if value < 2:
            raise ValueError(f"{name} is {value}; it must be 2 or more")
    rng = np.random.default_rng(0)
    pairs = [_pair(rng, 1 + i % 3) for i in range(images)]
    pose = {
        "AP": _seconds(lambda: keypoint_scores(pairs))[0],
        "CAP": _seconds(lambda: similarity_scores(pairs))[0],
        "PCE": _seconds(lambda: count_scores(pairs, 0.5))[0],
    }
    a = rng.normal(size=(features, width)).astype(np.float32)
    b = (1.1 * rng.normal(size=(features, width)) + 0.1).astype(np.float32)
    gathered, (first, second) = _seconds(lambda: (_moments(a), _moments(b)))
    ours, value = _seconds(lambda: frechet_distance(first, second))
    theirs, textbook = _seconds(lambda: _textbook(first, second))
    traces = float(np.trace(first.covariance()) + np.trace(second.covariance()))
    rows = [
        *([f"{name} of {images} images", f"{spent:.2f}"] for name, spent in pose.items()),
        ["AP, CAP and PCE together", f"{sum(pose.values()):.2f}"],
        [f"Frechet distance of 2 x {features} x {width}, moments and distance", f"{gathered + ours:.2f}"],
        ["the distance alone, from the moments", f"{ours:.2f}"],
        [f"the same by sqrtm ({theirs / ours:.1f} times as long)", f"{theirs:.2f}"],
    ]
    gap = f"The two ways differ by {abs(value - textbook) / traces:.1e} of the traces."
    where = f"CPU, {torch.get_num_threads()} threads"
    return f"{where}\n\n{markdown_table(['what', 'seconds'], rows)}\n\n{gap}"


def _pair(rng: np.random.Generator, n: int) -> tuple[People, People]:
    """n people, and the same found nearly where they are; every fifth time one is missed."""
    xy = rng.uniform(20, 490, (n, 1, 2)) + rng.normal(0, 60, (n, 17, 2))
    found = (xy + rng.normal(0, 5, xy.shape))[: max(1, n - int(rng.random() < 0.2))]
    extras = [{"score": float(score)} for score in rng.uniform(0.3, 1, len(found))]
    return People.of(xy, CANVAS), People.of(found, CANVAS, extras=extras)


def _moments(features: np.ndarray) -> Moments:
    moments = Moments.empty(features.shape[1])
    for start in range(0, len(features), BATCH):
        moments = moments.update(features[start : start + BATCH])
    return moments


def _textbook(a: Moments, b: Moments) -> float:
    first, second, gap = a.covariance(), b.covariance(), a.mean - b.mean
    return float(gap @ gap + np.trace(first + second) - 2 * np.trace(np.real(sqrtm(first @ second))))


def _seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result
