"""What carries batches through stages: a pool of processes on this machine, or Ray when the data outgrow it.

Both have one signature and give the same items in the same order, so the data set does not depend on them.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import pickle
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from humansd.build.item import Batch, Stage
from humansd.core.workers import ordered_map

WAITING = 8  # batches that wait for a network at once
_WINDOW = 64  # batches a Ray worker is given before what came of them is fetched

Flow = Generator[Batch, None, None]
Engine = Callable[[Sequence[Stage], Sequence[Batch], int], Flow]


def run_stages(stages: Sequence[Stage], batch: Batch) -> Batch:
    """A batch through all stages, in this process."""
    return functools.reduce(lambda now, stage: stage(now), stages, batch)


def local_engine(stages: Sequence[Stage], batches: Sequence[Batch], workers: int) -> Flow:
    """Yields each batch, in order, behind all `stages`.

    Stages that compute run on `workers` processes (1: this one), those that wait (`Stage.waits`) on threads of this
    process, both at once; `Stage.light` ones go along with what follows. Only a few batches a worker are in memory.
    """
    with contextlib.ExitStack() as open_flows:
        flow: Iterator[Batch] = iter(batches)
        for waits, group in stage_groups(stages):
            work = functools.partial(run_stages, group)
            started = _on_threads(work, flow) if waits else ordered_map(work, flow, workers, chunk=1)
            flow = open_flows.enter_context(contextlib.closing(started))
        yield from flow


def stage_groups(stages: Sequence[Stage]) -> list[tuple[bool, tuple[Stage, ...]]]:
    """The stages in order, in groups that stay together: whether a group waits, and its stages."""
    waits = False
    kinds: list[tuple[bool, Stage]] = []
    for stage in reversed(stages):
        waits = waits if getattr(stage, "light", False) and kinds else bool(getattr(stage, "waits", False))
        kinds.insert(0, (waits, stage))
    grouped = itertools.groupby(kinds, key=lambda kind: kind[0])
    return [(kind, tuple(stage for _, stage in group)) for kind, group in grouped]


def _on_threads(work: Callable[[Batch], Batch], batches: Iterable[Batch]) -> Flow:
    """As `ordered_map`, on threads."""
    pool = ThreadPoolExecutor(WAITING)
    waiting: deque[Future[Batch]] = deque()
    try:
        for batch in batches:
            waiting.append(pool.submit(work, batch))
            if len(waiting) >= WAITING:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def ray_engine(stages: Sequence[Stage], batches: Sequence[Batch], workers: int) -> Flow:
    """As `local_engine`, by Ray Data: on the cluster of the environment's address, else on one it starts here.

    workers: tasks that run at once. A limit that a stage keeps (addresses a host) holds for each task.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: it does not start.
    """
    try:
        import ray
    except ImportError:
        raise ImportError("--engine ray needs Ray; install it: pip install 'humansd[ray]'") from None
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, configure_logging=False, include_dashboard=False)
        except Exception as error:  # Ray raises bare ones
            remedy = "try again when the machine has less to do, or use --engine local"
            raise ConnectionError(f"Ray did not start: {' '.join(str(error).split())}; {remedy}") from error
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    work = _RayWork(tuple(stages))
    tasks = ray.data.TaskPoolStrategy(size=workers)
    window = _WINDOW * workers
    for start in range(0, len(batches), window):
        few = [{"batch": pickle.dumps(batches[k])} for k in range(start, min(start + window, len(batches)))]
        rows = ray.data.from_items(few, override_num_blocks=len(few)).map(work, compute=tasks)
        for row in rows.iter_rows():
            yield pickle.loads(row["batch"])  # noqa: S301  # what this process and its own workers wrote


class _RayWork:
    """A row of Ray's with a batch in it -> the same behind the stages."""

    def __init__(self, stages: tuple[Stage, ...]) -> None:
        self.stages = stages

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"batch": pickle.dumps(run_stages(self.stages, pickle.loads(row["batch"])))}  # noqa: S301  # see above


ENGINES: dict[str, Engine] = {"local": local_engine, "ray": ray_engine}
