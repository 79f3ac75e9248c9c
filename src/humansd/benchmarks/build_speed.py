"""How fast a data set is built beside its slowest stage, whether memory stays flat, and what the last shard costs."""

from __future__ import annotations

import io
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from humansd.build.filters import Quality, Resolution
from humansd.build.item import Batch, Item, Stage, each
from humansd.build.pipeline import Plan, build_dataset
from humansd.build.stages import Decode, Encode
from humansd.core.markdown import markdown_table
from humansd.pose.people import People

BATCH = 16


@dataclass(frozen=True)
class Noise:
    """`count` items of images of that side, in px."""

    count: int
    side: int

    def __len__(self) -> int:
        return self.count

    def item(self, index: int) -> Item:
        people = People.empty((self.side, self.side))
        return Item(index, f"{index:08d}", {"n": index}, None, None, people, "noise", "", "noise", "CC0-1.0")

    def signature(self) -> dict[str, Any]:
        return {"kind": "noise", "count": self.count, "side": self.side}


@dataclass(frozen=True)
class Make:
    """The bytes of a JPEG of colored squares, for each item another; stands for reading it."""

    side: int

    def __call__(self, batch: Batch) -> Batch:
        return each(batch, self._make)

    def _make(self, item: Item) -> Item:
        coarse = np.random.default_rng(item.index).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        stream = io.BytesIO()
        squares = Image.fromarray(coarse).resize((self.side, self.side), Image.Resampling.NEAREST)
        squares.save(stream, "JPEG", quality=90)
        return item.but(data=stream.getvalue())


@dataclass(frozen=True)
class Wait:
    """A network that answers a batch after `seconds`."""

    seconds: float
    waits: bool = field(default=True, init=False)

    def __call__(self, batch: Batch) -> Batch:
        time.sleep(self.seconds)
        return batch


def benchmark_build(count: int = 2000, side: int = 256, workers: int = 0, wait_s: float = 0.5) -> str:
    """Builds `count` images once without and once with a stage that waits `wait_s` for each batch; a table.

    The bound is the smaller of the slowest stage's rate (alone, on all cores) and cores / CPU seconds of all stages.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = workers or cores
    stages: tuple[Stage, ...] = (Make(side), Decode(), Resolution(), Quality(), Encode())
    alone = _seconds_alone(stages, side)
    rows = [[type(stage).__name__, f"{workers / seconds:.0f}", ""] for stage, seconds in zip(stages, alone)]
    slowest, total = min(workers / seconds for seconds in alone), min(cores, workers) / sum(alone)
    for name, few, bound in (
        ("all", stages, min(slowest, total)),
        ("all, behind a network", (Wait(wait_s), *stages), min(slowest, total, 8 * BATCH / wait_s)),
    ):
        rate, last = _rate(few, count, side, workers)
        rows.append([name, f"{rate:.0f}", f"{rate / bound:.2f} of the bound; last shard {last:.2f} x the median"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1 << 20)
    return markdown_table(["stage", "images a second", ""], rows) + f"\n\n{workers} workers; peak memory {peak:.0f} MB."


def _seconds_alone(stages: Sequence[Stage], side: int, batches: int = 8) -> list[float]:
    """CPU seconds an image takes in each stage, in this process."""
    source = Noise(BATCH * batches, side)
    flow = [[source.item(k * BATCH + i) for i in range(BATCH)] for k in range(batches)]
    out = []
    for stage in stages:
        started = time.process_time()
        flow = [stage(batch) for batch in flow]
        out.append(max(1e-9, (time.process_time() - started) / (BATCH * batches)))
    return out


def _rate(stages: Sequence[Stage], count: int, side: int, workers: int) -> tuple[float, float]:
    """Images a second from the first shard on (so that starting workers does not count), and the last shard's time."""
    per_shard = max(1, count // 20)
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(stages, per_shard=per_shard, batch_size=BATCH)
        build_dataset(Noise(count, side), plan, folder, workers=workers, progress=False)
        times = sorted(path.stat().st_mtime for path in Path(folder).glob("shard-*.tar"))
    steps = np.diff(times)
    return per_shard * len(steps) / max(1e-9, times[-1] - times[0]), float(steps[-1] / max(1e-9, np.median(steps)))


def benchmark_build_memory(count: int = 50_000) -> str:
    """Builds `count` images of 32 px in this process and says how the memory grew over the last nine tenths."""
    seen: list[float] = []
    watch = _Watch(Noise(count, 32), seen, max(1, count // 20))
    with tempfile.TemporaryDirectory() as folder:
        build_dataset(watch, Plan((Make(32), Decode(), Encode()), per_shard=1000), folder, progress=False)
    return f"{count} images: {seen[len(seen) // 10]:.0f} MB after a tenth, {seen[-1]:.0f} MB at the end"


@dataclass(frozen=True, eq=False)
class _Watch:
    """A source that notes the memory of this process every `every` items."""

    noise: Noise
    seen: list[float]
    every: int

    def __len__(self) -> int:
        return len(self.noise)

    def item(self, index: int) -> Item:
        if index % self.every == 0:
            self.seen.append(_memory_mb())
        return self.noise.item(index)

    def signature(self) -> dict[str, Any]:
        return self.noise.signature()


def _memory_mb() -> float:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:  # not Linux: the peak so far
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
