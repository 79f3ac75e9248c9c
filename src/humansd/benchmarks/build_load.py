"""What the benchmark of building is fed with: a source of images, a network that waits, and a meter of what is used."""

from __future__ import annotations

import io
import multiprocessing
import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from humansd.build.item import Batch, Item, Stage, each
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


@dataclass(eq=False)
class Meter:
    """A source that notes what this process and its workers use between its items.

    first: item from which on CPU time counts, when all workers are at work. watched: items between two looks at the
    memory; 0: none. memory_mb: what was found.
    """

    noise: Noise
    first: int
    watched: int = 0
    memory_mb: list[float] = field(default_factory=list)
    used: list[dict[int, float]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.noise)

    def item(self, index: int) -> Item:
        if index in (self.first, len(self) - 1):
            self.used.append(_cpu_seconds())
        if self.watched and index % self.watched == 0:
            self.memory_mb.append(memory_mb())
        return self.noise.item(index)

    def signature(self) -> dict[str, Any]:
        return self.noise.signature()

    def cpu_seconds(self) -> float:
        """CPU seconds an image took, in all processes, from the first item that counts to the last."""
        early, late = self.used
        return sum(late[one] - early[one] for one in late if one in early) / max(1, len(self) - 1 - self.first)


def _cpu_seconds() -> dict[int, float]:
    """Process -> CPU seconds until now, of this one and of the workers that it has, where the system says so."""
    seconds = {os.getpid(): time.process_time()}
    for process in multiprocessing.active_children():
        try:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        seconds[process.pid or 0] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def stage_seconds(stages: Sequence[Stage], side: int, worker: int, batches: int = 12) -> list[float]:
    """CPU seconds an image takes in the source and in each stage, in this process; `worker` is a number to be called
    with."""
    source = Noise(BATCH * (batches + 1), side)
    source.item(0)
    started = time.process_time()
    flow = [[source.item(k * BATCH + i) for i in range(BATCH)] for k in range(batches + 1)]
    out = [(time.process_time() - started) / len(source)]
    for stage in stages:
        flow[0] = stage(flow[0])  # what is loaded once does not count
        started = time.process_time()
        flow[1:] = [stage(batch) for batch in flow[1:]]
        out.append(max(1e-9, (time.process_time() - started) / (BATCH * batches)))
    return out


def memory_mb() -> float:
    """The memory of this process now, in MB; where the system does not say, the most it ever had."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
