"""Samples for the tests of shards; importable by worker processes, and a program that can be killed."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from humansd.data import Sample, write_shards
from humansd.pose import People

COUNT, PER_SHARD = 43, 5


def make(index: int, *, delay_s: float = 0.0) -> Sample:
    """A small sample that depends on the index alone; every third shows nobody."""
    time.sleep(delay_s)
    rng = np.random.default_rng(index)
    width, height = 20, 12 + index % 4
    people = People.empty((width, height))
    if index % 3:
        xy = rng.uniform(0, 12, (1, 17, 2))
        people = People.of(xy, (width, height), area=[31.5] if index % 2 else None, extras=[{"id": index}])
    mask = (rng.random((height, width)) < 0.3).astype(np.uint8)
    return Sample(
        key=f"s{index:06d}",
        image=rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        caption=f"photo, sample “{index}”",
        people=people,
        scene="photo",
        source="test",
        license="CC0-1.0",
        extras={"mask": mask, "n": index} if index % 2 else {"n": index},
    )


def fails_at_seven(index: int) -> Sample:
    if index == 7:
        raise ValueError("index 7 cannot be made")
    return make(index)


if __name__ == "__main__":  # OUT WORKERS DELAY_S
    out, workers, delay_s = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    maker = partial(make, delay_s=delay_s)
    write_shards(maker, COUNT, out, per_shard=PER_SHARD, workers=workers, progress=False, settings={"a": 1})
