"""One data set from one source: every item through the stages, in order, to shards that may be killed at any point."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from humansd.build.card import write_card
from humansd.build.engine import ENGINES
from humansd.build.item import Batch, Item, Source, Stage, stage_record
from humansd.build.writer import ShardWriter
from humansd.data.shards import only_writer


@dataclass(frozen=True)
class Plan:
    """How a data set is built.

    stages: what every item goes through, in order; the last is `stages.Encode`. per_shard: samples of a shard; all have
    as many but the last of a run. batch_size: items a stage is given at once. pool: items of which `select` chooses
    (a multiple of batch_size; 0: nothing chooses). count: samples after which it ends; 0: at the end of the source.
    near: see `ShardWriter`. about: values for the data card.
    """

    stages: Sequence[Stage]
    per_shard: int = 500
    batch_size: int = 16
    pool: int = 0
    select: Stage | None = None
    count: int = 0
    near: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, source: Source) -> dict[str, Any]:
        """What decides the bytes of the data set, as plain values."""
        chosen = {} if self.select is None else {"select": stage_record(self.select), "pool": self.pool}
        count = {"kept": self.count} if self.count else {}
        stages = [stage_record(stage) for stage in self.stages]
        return {"source": source.signature(), "stages": stages, **chosen, **count, "about": dict(self.about)}


@dataclass(frozen=True)
class Batches(Sequence[Batch]):
    """The items at some places of a source, as a sequence of batches that are made when they are asked for."""

    source: Source
    places: Sequence[int]
    size: int

    def __len__(self) -> int:
        return -(-len(self.places) // self.size)

    def __getitem__(self, number: Any) -> Any:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return [self.source.item(place) for place in self.places[number * self.size : (number + 1) * self.size]]

    def __iter__(self) -> Iterator[Batch]:
        return (self[number] for number in range(len(self)))


def build_dataset(
    source: Source,
    plan: Plan,
    out: Path | str,
    *,
    engine: str = "local",
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Builds the data set in `out` and returns its manifest; the same call goes on after a kill, and tries once more
    what a network did not give where the data set is finished.

    Raises:
        ShardError: the folder holds something else, was begun otherwise, or a shard in it was changed.
        DiskError: there is no room; the same call goes on when there is.
        ValueError: no such engine; ImportError: Ray is not installed.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine {engine!r} is not known; choose one of {', '.join(ENGINES)}")
    for name, value in (("workers", workers), ("per_shard", plan.per_shard), ("batch_size", plan.batch_size)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be 1 or more")
    out = Path(out)
    with only_writer(out), ShardWriter(out, plan.per_shard, plan.settings(source), plan.near) as writer:
        again = writer.begin_round()
        places: Sequence[int] = range(len(source)) if again is None else again
        if again != []:
            _run(source, plan, writer, places, engine, workers, progress)
        # of a source without end only so many items are looked at as make up the count
        seen = writer.build["position"] if plan.count else len(source)
        manifest = writer.finish(seen) if again != [] else writer.manifest
        write_card(out, manifest)
        return manifest


def _run(
    source: Source,
    plan: Plan,
    writer: ShardWriter,
    places: Sequence[int],
    engine: str,
    workers: int,
    progress: bool,
) -> None:
    """Every item from the writer's position on, to the writer."""
    unit = plan.pool or plan.batch_size
    position = writer.build["position"]
    first = position // unit * unit  # what chooses among many must see all of them again
    batches = Batches(source, places[first:], plan.batch_size)
    bar = tqdm(total=plan.count or len(places), unit="img", disable=not progress)
    with bar, contextlib.closing(ENGINES[engine](plan.stages, batches, workers)) as carried:
        flow = _counted(carried, bar, first) if plan.count else carried
        bar.update(writer.kept if plan.count else position)
        for place, item in enumerate(_chosen(flow, plan), start=first):
            if plan.count and writer.kept >= plan.count:
                break
            if place < position:
                continue
            before = writer.kept
            writer.take(place, item)
            bar.update(writer.kept - before if plan.count else 1)


def _counted(flow: Iterator[Batch], bar: Any, seen: int) -> Iterator[Batch]:
    """The batches, told beside a bar that counts only what is kept."""
    for batch in flow:
        seen += len(batch)
        bar.set_postfix_str(f"{seen} looked at")
        yield batch


def _chosen(flow: Iterator[Batch], plan: Plan) -> Iterator[Item]:
    """The items one by one, pool by pool behind `plan.select`."""
    if plan.select is None:
        yield from itertools.chain.from_iterable(flow)
        return
    while pool := list(itertools.chain.from_iterable(itertools.islice(flow, plan.pool // plan.batch_size))):
        yield from plan.select(pool)
