"""How fast estimators see: images a second, and how much of the time passes outside their networks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from humansd.core.arrays import ImageArray
from humansd.models.estimators import PoseEstimator, load_estimator
from humansd.synthetic.render import make_sample

SEED = 990_003
REPEATS = 5


@dataclass(frozen=True)
class EstimatorSpeed:
    """images_per_s: median over the repeats; outside_share: of the time, in 0..1, spent on everything but the
    networks (making the batch, decoding, grouping)."""

    estimator: str
    n_images: int
    images_per_s: float
    outside_share: float
    people_per_image: float


def crowded_images(count: int, people: int = 3, size: int = 128) -> list[ImageArray]:
    """The first `count` Atelier images with `people` people."""
    found: list[ImageArray] = []
    index = 0
    while len(found) < count:
        sample = make_sample(SEED, index, size)
        index += 1
        if sample.people.n == people:
            found.append(sample.image)
    return found


def time_estimator(estimator: PoseEstimator, images: Sequence[ImageArray]) -> EstimatorSpeed:
    """Detects the people of all images `REPEATS` times after a warm-up; the device is waited for."""
    found = estimator.detect(images)
    whole, inside = [], []
    for _ in range(REPEATS):
        with _timed(estimator.networks) as spent:
            start = time.perf_counter()
            estimator.detect(images)
            whole.append(time.perf_counter() - start)
        inside.append(spent[0])
    shares = [1 - network / total for network, total in zip(inside, whole, strict=True)]
    mean_people = float(np.mean([people.n for people in found]))
    speed = len(images) / float(np.median(whole))
    return EstimatorSpeed(estimator.name, len(images), speed, float(np.median(shares)), mean_people)


def benchmark_estimators(names: Sequence[str], count: int = 64, device: str = "cpu") -> str:
    """A table of the estimators' speeds on the same images of three people, in one run.

    names: of `ESTIMATORS`, or NAME=SOURCE for other weights than those that ship.
    """
    if count < 1:
        raise ValueError(f"count is {count}; give a number of images")
    seers = [load_estimator(name, source, device) for name, _, source in (one.partition("=") for one in names)]
    images = crowded_images(count)
    rows = [time_estimator(seer, images) for seer in seers]
    where = f"CPU, {torch.get_num_threads()} threads" if device == "cpu" else torch.cuda.get_device_name(device)
    lines = [
        f"{count} images of 3 people, 128 px, {where}",
        "| estimator | images/s | outside the network | people found an image |",
        "|---|---|---|---|",
        *(
            f"| {r.estimator} | {r.images_per_s:.1f} | {100 * r.outside_share:.1f} % | {r.people_per_image:.2f} |"
            for r in rows
        ),
    ]
    return "\n".join(lines)


@contextmanager
def _timed(networks: Sequence[nn.Module]) -> Iterator[list[float]]:
    """Seconds spent inside the networks' forward passes, added up in the one number of the list."""
    spent, starts = [0.0], [0.0]

    def before(module: nn.Module, *_: Any) -> None:
        _wait(module)
        starts[0] = time.perf_counter()

    def after(module: nn.Module, *_: Any) -> None:
        _wait(module)
        spent[0] += time.perf_counter() - starts[0]

    hooks = [h for one in networks for h in (one.register_forward_pre_hook(before), one.register_forward_hook(after))]
    try:
        yield spent
    finally:
        for hook in hooks:
            hook.remove()


def _wait(module: nn.Module) -> None:
    if next(module.parameters()).is_cuda:
        torch.cuda.synchronize()
