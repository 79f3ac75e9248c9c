"""Photographs that wait for an estimator: one thread looks at them, one after the other."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from humansd.pose.people import People
from humansd.studio.bridge_poses import Estimator
from humansd.studio.drawing import Pixels
from humansd.studio.errors import StudioError
from humansd.studio.jobs import LONGEST_WAIT_S
from humansd.studio.metrics import Metrics
from humansd.studio.settings import StudioSettings

MOST_PHOTOS = 8  # that wait; each keeps a thread of the server
UNKNOWN_S = 5.0  # of a photograph, before any was looked at
_NEW = 0.3  # the share of the last one in what is told of the next


class Looker:
    """The estimators of a studio; each is loaded when it is first asked."""

    def __init__(self, settings: StudioSettings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._estimators: dict[str, Estimator] = {}
        self._thread = ThreadPoolExecutor(1, "studio-estimator")
        self._waiting = 0
        self._pace: float | None = None
        self._begun: float | None = None
        self._lock = threading.Lock()

    def detect(self, image: Pixels, estimator: str = "") -> People:
        """The people of an image; waits for its turn. StudioError: 429 where too many wait, 504 where it takes long."""
        with self._lock:
            if self._waiting >= MOST_PHOTOS:
                wait = max(1, min(LONGEST_WAIT_S, math.ceil(self._room_in())))
                raise StudioError(
                    f"too many photographs wait ({self._waiting}); ask again in {wait} s",
                    status=429,
                    code="queue_full",
                    retry_after=wait,
                )
            self._waiting += 1
        looking = self._thread.submit(self._detect, image, estimator)
        try:
            return looking.result(self._settings.limits.sync_s)
        except TimeoutError:
            looking.cancel()  # nobody waits for it any more
            raise StudioError("the estimator took too long; ask again", status=504, code="timeout") from None
        finally:
            with self._lock:
                self._waiting -= 1

    def close(self) -> None:
        """Those that wait are given up."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _room_in(self) -> float:
        """Seconds until the one that is looked at is done, as fast as those before it."""
        looked = 0.0 if self._begun is None else time.monotonic() - self._begun
        return (UNKNOWN_S if self._pace is None else self._pace) - looked

    def _detect(self, image: Pixels, name: str) -> People:
        name = name or self._settings.estimator
        known = name in self._estimators
        if not known:
            source = self._settings.estimator_source if name == self._settings.estimator else ""
            self._estimators[name] = Estimator(name, source)
        self._metrics.detections.inc()
        begun = time.monotonic()
        with self._lock:
            self._begun = begun
        try:
            return self._estimators[name].detect(image)
        finally:
            with self._lock:
                self._begun = None
                if known:  # the first one loads the estimator, too
                    took = time.monotonic() - begun
                    self._pace = took if self._pace is None else (1 - _NEW) * self._pace + _NEW * took
