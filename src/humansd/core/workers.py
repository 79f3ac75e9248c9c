"""A function over many inputs on several processes, results in the order of the inputs."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from humansd.core.allocation import keep_memory

A = TypeVar("A")
B = TypeVar("B")

_CHUNK = 8  # inputs a task; few enough that the last tasks end together
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_AHEAD = 4  # tasks a worker that may wait finished; bounds the memory


MOST_LOADERS = 12  # beside a GPU
_DIED = "a worker process died; is there memory for that many workers?"
# A worker reads the calling script anew, as every spawned process of Python does.
_NEVER_STARTED = (
    "a worker process died before it had done anything. In a script of your own, write the call under `if __name__ == "
    '"__main__":`, and run it from a file, not from standard input; otherwise, is there memory for that many workers? '
    "With workers=1 none is started"
)


class WorkerError(ChildProcessError):
    """A worker process died, most likely for want of memory."""


def ordered_map(
    function: Callable[[A], B], inputs: Iterable[A], workers: int, chunk: int = _CHUNK
) -> Generator[B, None, None]:
    """Yields function(x) for x in inputs, in order, computed on `workers` processes of one thread each.

    With one worker everything happens in this process. With more, processes are spawned (never forked, so a
    parent with threads is safe); function and inputs must be picklable. Inputs are taken as they are needed, some
    ahead. An exception of `function` is raised here. The workers end with this process, however it ends.

    chunk: inputs that a process is given at once; 1 where each is much work.
    """
    count = len(inputs) if isinstance(inputs, Sequence) else None
    if workers == 1 or (count is not None and count <= 1):
        yield from map(function, inputs)
        return
    if count is not None:
        workers = min(workers, -(-count // chunk))
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    worked = False
    try:
        waiting: deque[Future[list[B]]] = deque()
        rest = iter(inputs)
        while few := list(itertools.islice(rest, chunk)):
            with _one_thread_each():  # a worker may be started by any submit
                waiting.append(pool.submit(_apply, function, few))
            if len(waiting) >= workers * _AHEAD:
                done, worked = waiting.popleft().result(), True
                yield from done
        while waiting:
            done, worked = waiting.popleft().result(), True
            yield from done
    except BrokenProcessPool:
        raise WorkerError(_DIED if worked else _NEVER_STARTED) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def spare_loaders(device: str) -> int:
    """Processes that may prepare data beside work on a device of this type ("cpu", "cuda"): as many as it leaves cores
    idle, none on a CPU, which computes on every core."""
    if device == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_LOADERS, max(0, cores - 2))


@contextlib.contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Inside, processes may be forked: OpenCV's threads do not come along, and a forked process that asks for any, or
    for none, waits for them for ever."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _apply(function: Callable[[A], B], chunk: Sequence[A]) -> list[B]:
    return [function(item) for item in chunk]


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started inside compute on one thread; read by the number libraries when they are loaded."""
    names = [name for name in _THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


def _start_worker() -> None:
    """Memory that is kept, no OpenCV threads, no say about Ctrl-C, and no life after a parent that was killed."""
    import cv2

    keep_memory()
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
