"""Batches, made ahead: in another thread, or on several processes where a GPU would wait for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from accelerate import Accelerator
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from humansd.core.workers import one_opencv_thread, spare_loaders

Load = Callable[[range], Any]
PARTS_AHEAD = 3  # of each process


class Prefetcher:
    """The parts of a batch that this process computes: it takes `share` samples of each.

    Part p of process r holds the samples from start + (p * processes + r) * share on, so any number of processes and
    parts sees the same batch. While a part is learnt, the next is loaded.
    """

    def __init__(
        self,
        load: Load,
        accelerator: Accelerator,
        parts: int,
        share: int,
        loaders: int | None = None,
    ) -> None:
        """parts: of a batch. loaders: processes that load; 0: a thread of this one; None: as many as the device leaves
        idle."""
        self._parts, self._share = parts, share
        self._processes, self._rank = accelerator.num_processes, accelerator.process_index
        count = spare_loaders(accelerator.device.type) if loaders is None else loaders
        stride = self._processes * share  # from one part of this process to the next, also into the next batch
        self._source = _Processes(load, stride, count) if count else _Thread(load, stride)

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()

    def parts(self, start: int) -> Iterator[Any]:
        """What `load` makes of each part of the batch that begins at sample `start`."""
        for part in range(self._parts):
            first = start + (part * self._processes + self._rank) * self._share
            yield self._source.take(range(first, first + self._share))


class _Thread:
    """Loads one part ahead."""

    def __init__(self, load: Load, stride: int) -> None:
        self._load, self._stride = load, stride
        self._pool = ThreadPoolExecutor(1)
        self._ahead: tuple[range, Future] | None = None

    def take(self, samples: range) -> Any:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] != samples:  # a bad batch was passed over
            ahead[1].cancel()
            ahead = None
        loaded = (ahead[1] if ahead else self._pool.submit(self._load, samples)).result()
        following = _moved(samples, self._stride)
        self._ahead = following, self._pool.submit(self._load, following)
        return loaded

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class _Processes:
    """Loads on `count` processes, some parts ahead. They are forked, so they share what the task holds; what they make
    is the same as in one thread, and they touch nothing on a GPU."""

    def __init__(self, load: Load, stride: int, count: int) -> None:
        self._load, self._stride, self._count = load, stride, count
        self._loaded: Iterator[Any] = iter(())
        self._next: range | None = None

    def take(self, samples: range) -> Any:
        if samples != self._next:  # the first, or a bad batch was passed over
            self.close()
            loader = DataLoader(
                _Parts(self._load, samples, self._stride),
                batch_size=None,
                num_workers=self._count,
                prefetch_factor=PARTS_AHEAD,
                multiprocessing_context="fork",
            )
            with one_opencv_thread():
                self._loaded = iter(loader)
        self._next = _moved(samples, self._stride)
        return next(self._loaded)

    def close(self) -> None:
        self._loaded = iter(())  # ends the processes


class _Parts(IterableDataset):
    """Part after part without end; of k processes each makes every k-th, and DataLoader takes turns."""

    def __init__(self, load: Load, first: range, stride: int) -> None:
        self._load, self._first, self._stride = load, first, stride

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        number, count = (info.id, info.num_workers) if info else (0, 1)
        while True:
            yield self._load(_moved(self._first, number * self._stride))
            number += count


def _moved(samples: range, by: int) -> range:
    return range(samples.start + by, samples.stop + by)
