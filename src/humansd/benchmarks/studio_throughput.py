"""What batching gains in a studio, beside what it gains the pipeline alone: both in turns, in one run."""

from __future__ import annotations

import contextlib
import math
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from humansd.benchmarks.studio_process import StudioProcess
from humansd.inference.pretrained import load_pipeline
from humansd.pose.examples import example_poses
from humansd.pose.formats import read_poses
from humansd.pose.people import People

BATCHES = (1, 2, 4, 8)
LEAST = 0.9  # of the pipeline's gain
_PATIENCE_S = 600.0


@dataclass(frozen=True)
class Rate:
    """images_s: of wall time. cpu_s: an image. batch: images drawn at once, in the mean."""

    images_s: float
    cpu_s: float
    batch: float


def benchmark_throughput(
    out: Path, *, model: str = "pocket", batches: Sequence[int] = BATCHES, steps: int = 4, rounds: int = 3
) -> str:
    """For each batch size a studio of its own; in each round the pipeline and each studio draw in turn.

    A studio has twice as many clients as its batch size, each with one image at a time. The medians of the rounds are
    compared: what a busy machine takes from one, it takes from its neighbor.

    Args:
        out: folder of the logs. batches: the first is what gains are counted from, usually 1.

    Raises:
        ValueError: the largest batch gains a studio less than `LEAST` of what it gains the pipeline, by wall time.
    """
    out.mkdir(parents=True, exist_ok=True)
    pipeline = load_pipeline(model)
    pipeline.set_progress_bar_config(disable=True)
    pose = next(iter(read_poses(example_poses()).values()))
    alone: dict[int, list[Rate]] = {size: [] for size in batches}
    served: dict[int, list[Rate]] = {size: [] for size in batches}
    with contextlib.ExitStack() as stack:
        studios = {size: stack.enter_context(_studio(model, out, size)) for size in batches}
        for turn in range(rounds + 1):
            for size in batches:
                count = max(8, 4 * size)
                one, other = (
                    _alone(pipeline, pose, size, steps, count),
                    _served(studios[size], pose, size, steps, count),
                )
                if turn:  # the first round warms up
                    alone[size].append(one)
                    served[size].append(other)
    return _told({size: _median(alone[size]) for size in batches}, {size: _median(served[size]) for size in batches})


@contextlib.contextmanager
def _studio(model: str, out: Path, size: int) -> Iterator[StudioProcess]:
    log = out / f"server-{size}.log"
    studio = StudioProcess(model, log, ["--batch-size", str(size), "--state", str(out / f"state-{size}")])
    try:
        yield studio
    finally:
        studio.stop()


def _alone(pipeline: Any, pose: People, size: int, steps: int, count: int) -> Rate:
    begun, cpu = time.monotonic(), time.process_time()
    drawn = math.ceil(count / size) * size
    for _ in range(drawn // size):
        pipeline([f"photo, person {i}" for i in range(size)], pose, num_inference_steps=steps, seed=0)
    return Rate(drawn / (time.monotonic() - begun), (time.process_time() - cpu) / drawn, size)


def _served(studio: StudioProcess, pose: People, size: int, steps: int, count: int) -> Rate:
    left = iter(range(count))
    lock, wrong = threading.Lock(), []

    def client() -> None:
        while True:
            with lock:
                number = next(left, None)
            if number is None:
                return
            ask = {"prompt": f"photo, person {number}", "pose": pose.to_json(), "num_inference_steps": steps, "seed": 0}
            status, body, _ = studio.ask("POST", "/v1/generate", ask, timeout_s=_PATIENCE_S)
            if status != 200:
                wrong.append(f"{status}: {body[:200]!r}")

    threads = [threading.Thread(target=client) for _ in range(2 * size)]
    before, cpu, begun = studio.counters(), studio.cpu_s(), time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, spent, after = time.monotonic() - begun, studio.cpu_s() - cpu, studio.counters()
    if wrong:
        raise ValueError(f"the studio answered {wrong[0]}")
    drawn = after["humansd_batch_size_count"] - before.get("humansd_batch_size_count", 0.0)
    return Rate(count / seconds, spent / count, count / drawn)


def _median(rates: Sequence[Rate]) -> Rate:
    names = ("images_s", "cpu_s", "batch")
    return Rate(*(statistics.median(getattr(rate, name) for rate in rates) for name in names))


def _told(alone: dict[int, Rate], served: dict[int, Rate]) -> str:
    first, largest = min(alone), max(alone)
    lines = [
        "| batch | pipeline images/s | studio images/s | images a batch | pipeline CPU s an image "
        "| studio CPU s an image | gain of the pipeline | gain of the studio |",
        "|" + "---|" * 8,
    ]
    for size in alone:
        one, other = alone[size], served[size]
        gains = one.images_s / alone[first].images_s, other.images_s / served[first].images_s
        lines.append(
            f"| {size} | {one.images_s:.2f} | {other.images_s:.2f} | {other.batch:.1f} | {one.cpu_s:.3f} | "
            f"{other.cpu_s:.3f} | {gains[0]:.2f} | {gains[1]:.2f} |"
        )
    wall = (served[largest].images_s / served[first].images_s) / (alone[largest].images_s / alone[first].images_s)
    cpu = (served[first].cpu_s / served[largest].cpu_s) / (alone[first].cpu_s / alone[largest].cpu_s)
    lines.append(
        f"of the pipeline's gain from {first} to {largest} the studio has {wall:.2f} (by CPU seconds {cpu:.2f})"
    )
    if wall < LEAST:
        raise ValueError("\n".join([*lines, f"that is less than {LEAST}"]))
    return "\n".join(lines)
