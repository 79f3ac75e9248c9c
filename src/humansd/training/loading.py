"""Batches, made one ahead in another thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from accelerate import Accelerator


class Loader:
    """The parts of a batch that this process computes: of `accumulation` parts it takes `share` samples of each.

    Part p of process r holds the samples from start + (p * processes + r) * share on, so any number of processes and
    parts sees the same batch. While a part is learnt, the next is loaded.
    """

    def __init__(self, load: Callable[[range], Any], accelerator: Accelerator, accumulation: int, share: int) -> None:
        self._load, self._accumulation, self._share = load, accumulation, share
        self._processes, self._rank = accelerator.num_processes, accelerator.process_index
        self._thread = ThreadPoolExecutor(1)
        self._ahead: tuple[range, Future] | None = None

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def parts(self, start: int) -> Iterator[Any]:
        """What `load` makes of each part of the batch that begins at sample `start`."""
        batch = self._accumulation * self._processes * self._share
        for part in range(self._accumulation):
            loaded = self._take(self._samples(start, part))
            last = part + 1 == self._accumulation
            following = self._samples(start + batch, 0) if last else self._samples(start, part + 1)
            self._ahead = (following, self._thread.submit(self._load, following))
            yield loaded

    def _samples(self, start: int, part: int) -> range:
        first = start + (part * self._processes + self._rank) * self._share
        return range(first, first + self._share)

    def _take(self, samples: range) -> Any:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == samples:
            return ahead[1].result()
        if ahead is not None:  # a bad batch was passed over
            ahead[1].cancel()
        return self._thread.submit(self._load, samples).result()
