"""How fast a data set is built beside its slowest stage, whether memory stays flat, and what the last shard costs."""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from humansd.benchmarks.build_load import BATCH, Make, Meter, Noise, Wait, memory_mb, stage_seconds
from humansd.build.engine import WAITING
from humansd.build.filters import Quality, Resolution
from humansd.build.item import Stage
from humansd.build.pipeline import Plan, build_dataset
from humansd.build.stages import Decode, Encode
from humansd.build.writer import ShardWriter
from humansd.core.workers import ordered_map

LEAST = 0.9  # of the bound
LONGEST_LAST = 2.0  # of the median shard's time
MOST_GROWTH_KB = 0.5  # an image: the table by which duplicates are found takes half of it


@dataclass(frozen=True)
class Costs:
    """CPU seconds an image: of each stage, where all cores are busy with it, and of the writer."""

    stages: dict[str, float]
    writing: float

    @property
    def total(self) -> float:
        """Of all together."""
        return sum(self.stages.values()) + self.writing

    def bound(self, cores: int, workers: int) -> float:
        """Images a second: no stage, and no core, can do more."""
        slowest = min(workers / seconds for seconds in self.stages.values())
        return min(slowest, 1 / self.writing, cores / self.total)


def benchmark_build(
    count: int = 4000,
    side: int = 256,
    workers: int = 0,
    wait_s: float = 0.5,
    memory: int = 50_000,
    ray: int = 2,
) -> str:
    """Builds data sets and says what holds of them, in two tables.

    `count` images of `side` px are built once without and once with a stage that waits `wait_s` for each batch: the
    rate against the bound (`Costs.bound`, and the network's), and the last shard's time against the median. `memory`
    small images show whether the memory grows (0: not tried). `ray`: workers of Ray whose manifest must be that of the
    local engine (0: not tried, nor where Ray is not installed).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = workers or cores
    stages: tuple[Stage, ...] = (Make(side), Decode(), Resolution(min(64, side)), Quality(), Encode())
    costs = _costs(stages, side, workers)
    rows = [[name, f"{1000 * seconds:.2f}", f"{workers / seconds:.0f}"] for name, seconds in costs.stages.items()]
    rows += [["write (one process)", f"{1000 * costs.writing:.2f}", f"{1 / costs.writing:.0f}"]]
    rows += [["together", f"{1000 * costs.total:.2f}", f"{min(cores, workers) / costs.total:.0f}"]]
    bound = costs.bound(min(cores, workers), workers)
    network = WAITING * BATCH / wait_s
    found = _speed("all stages", stages, bound, count, side, workers, costs)
    found += _speed("behind a network", (Wait(wait_s), *stages), min(bound, network), count, side, workers, costs)
    found += [_memory(memory)] if memory else []
    found += [_ray(ray)] if ray else []
    from humansd.evaluation.tables import markdown_table  # only now: it loads torch, which would hide what grows

    costs_table = markdown_table(["stage", "CPU ms an image", "images a second"], rows)
    holds = markdown_table(["what", "found", "wanted", "holds"], found)
    return f"{costs_table}\n\n{holds}\n\n{workers} workers, {cores} cores"


def _costs(stages: Sequence[Stage], side: int, workers: int) -> Costs:
    """Each stage on all cores at once, so that they share caches and memory as they do in a build."""
    measure = functools.partial(stage_seconds, tuple(stages), side)
    each = np.array(list(ordered_map(measure, range(workers), workers, chunk=1)))
    names = ["source", *(type(stage).__name__ for stage in stages)]
    return Costs(dict(zip(names, each.mean(axis=0).tolist())), _write_seconds(stages, side))


def _write_seconds(stages: Sequence[Stage], side: int, batches: int = 12) -> float:
    """CPU seconds an image takes to be compared, written and digested."""
    source = Noise(BATCH * batches, side)
    flow = [source.item(k) for k in range(len(source))]
    for stage in stages:
        flow = stage(flow)
    with tempfile.TemporaryDirectory() as folder, ShardWriter(Path(folder), BATCH * 6, {}) as writer:
        started = time.process_time()
        for place, item in enumerate(flow):
            writer.take(place, item)
        writer.finish(len(flow))
        return (time.process_time() - started) / len(flow)


def _speed(
    name: str, stages: Sequence[Stage], bound: float, count: int, side: int, workers: int, costs: Costs
) -> list[list[str]]:
    """The rate from the first shard on (so that starting workers does not count), and the last shard's time."""
    per_shard = max(1, count // 20)
    source = Meter(Noise(count, side), first=count // 3)
    plan = Plan(stages, per_shard=per_shard, batch_size=BATCH)
    with tempfile.TemporaryDirectory() as folder:
        build_dataset(source, plan, folder, workers=workers, progress=False)
        times = sorted(path.stat().st_mtime_ns / 1e9 for path in Path(folder).glob("shard-*.tar"))
    steps = np.diff(times)
    rate = per_shard * len(steps) / max(1e-9, times[-1] - times[0])
    last = float(steps[-1] / max(1e-9, np.median(steps)))
    used = 1000 * source.cpu_seconds()
    return [
        _row(f"{name}: images a second", f"{rate:.0f}", f"{LEAST} x {bound:.0f}", rate >= LEAST * bound),
        [f"{name}: CPU ms an image, steady", f"{used:.2f}", f"{1000 * costs.total:.2f} in stages and writer", ""],
        _row(f"{name}: last shard", f"{last:.2f} x the median", f"at most {LONGEST_LAST:g}", last <= LONGEST_LAST),
    ]


def _row(what: str, found: str, wanted: str, holds: bool) -> list[str]:
    return [what, found, wanted, "yes" if holds else "**no**"]


def _memory(count: int) -> list[str]:
    """How the memory of the process that writes grows over the last nine tenths of `count` images of 32 px."""
    source = Meter(Noise(count, 32), first=count // 10, watched=max(1, count // 50))
    with tempfile.TemporaryDirectory() as folder:
        build_dataset(source, Plan((Make(32), Decode(), Encode()), per_shard=1000), folder, progress=False)
    early, late = source.memory_mb[len(source.memory_mb) // 10], memory_mb()
    grown = 1000 * (late - early) / (0.9 * count)
    told = f"{early:.0f} MB after a tenth, {late:.0f} MB at the end: {grown:.2f} kB an image"
    wanted = f"at most {MOST_GROWTH_KB:g} kB an image"
    return _row(f"memory, {count} small images", told, wanted, grown <= MOST_GROWTH_KB)


def _ray(workers: int, count: int = 400) -> list[str]:
    """Whether Ray's manifest is the local engine's."""
    what = f"manifest of Ray with {workers} workers"
    try:
        import ray.data  # noqa: F401
    except ImportError:
        return [what, "Ray is not installed", "the local engine's", "not tried"]
    plan, digests = Plan((Make(64), Decode(), Quality(), Encode()), per_shard=64, batch_size=BATCH), []
    for engine in ("local", "ray"):
        with tempfile.TemporaryDirectory() as folder:
            try:
                build_dataset(Noise(count, 64), plan, folder, engine=engine, workers=workers, progress=False)
            except ConnectionError as error:
                return [what, str(error), "the local engine's", "not tried"]
            digests.append(hashlib.sha256((Path(folder) / "manifest.json").read_bytes()).hexdigest()[:12])
    return _row(what, digests[1], digests[0], digests[0] == digests[1])
