"""Photographs that wait for an estimator: one thread looks at them, one after the other."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from humansd.pose.people import People
from humansd.studio.bridge_poses import Estimator
from humansd.studio.drawing import Pixels
from humansd.studio.errors import StudioError
from humansd.studio.metrics import Metrics
from humansd.studio.settings import StudioSettings

MOST_PHOTOS = 8  # that wait; each keeps a thread of the server


class Looker:
    """The estimators of a studio; each is loaded when it is first asked."""

    def __init__(self, settings: StudioSettings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._estimators: dict[str, Estimator] = {}
        self._thread = ThreadPoolExecutor(1, "studio-estimator")
        self._waiting = 0
        self._lock = threading.Lock()

    def detect(self, image: Pixels, estimator: str = "") -> People:
        """The people of an image; waits for its turn. StudioError: 429 where too many wait, 504 where it takes long."""
        with self._lock:
            if self._waiting >= MOST_PHOTOS:
                raise StudioError("too many photographs wait", status=429, code="queue_full", retry_after=5)
            self._waiting += 1
        try:
            return self._thread.submit(self._detect, image, estimator).result(self._settings.limits.sync_s)
        except TimeoutError:
            raise StudioError("the estimator took too long; ask again", status=504, code="timeout") from None
        finally:
            with self._lock:
                self._waiting -= 1

    def close(self) -> None:
        """Those that wait are given up."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _detect(self, image: Pixels, name: str) -> People:
        name = name or self._settings.estimator
        if name not in self._estimators:
            source = self._settings.estimator_source if name == self._settings.estimator else ""
            self._estimators[name] = Estimator(name, source)
        self._metrics.detections.inc()
        return self._estimators[name].detect(image)
