"""What is due in a run by the time it has taken."""

from __future__ import annotations

import time

from humansd.training.settings import LoopSettings


class Timers:
    """What is due by the time spent in this process."""

    def __init__(self, seconds_before: float, settings: LoopSettings) -> None:
        self._before, self._started = seconds_before, time.monotonic()
        self._every = {"save": settings.save_minutes, "images": settings.log_images_minutes}
        self._next = dict(self._every)
        self._limit = settings.max_minutes

    def seconds(self) -> float:
        """Of the run, earlier processes included."""
        return self._before + time.monotonic() - self._started

    def due(self, what: str) -> bool:
        """Whether `what` is due now; asking puts it off to the next time. Never, where its interval is 0."""
        minutes = (time.monotonic() - self._started) / 60
        if not 0 < self._next[what] <= minutes:
            return False
        self._next[what] = minutes + self._every[what]
        return True

    def out_of_time(self) -> bool:
        return 0 < self._limit <= (time.monotonic() - self._started) / 60
