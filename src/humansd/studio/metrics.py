"""What the studio counts, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The counters of one studio."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.requests = Counter("humansd_requests", "Answers by route and status.", ["route", "status"], registry=r)
        self.request_seconds = Histogram(
            "humansd_request_seconds", "From a request to its answer.", ["route"], buckets=_SECONDS, registry=r
        )
        self.jobs = Counter("humansd_jobs", "Jobs by how they ended.", ["state"], registry=r)
        self.accepted = Counter("humansd_jobs_accepted", "Jobs that were taken into the queue.", registry=r)
        self.images = Counter("humansd_images", "Images drawn.", ["model"], registry=r)
        self.batch_size = Histogram(
            "humansd_batch_size", "Images of a batch.", buckets=(1, 2, 4, 8, 16, 32), registry=r
        )
        self.batch_seconds = Histogram(
            "humansd_batch_seconds", "To draw a batch.", ["model"], buckets=_SECONDS, registry=r
        )
        self.detections = Counter("humansd_detections", "Photographs looked at.", registry=r)
        self.withheld = Counter("humansd_withheld", "Images that the content filter withheld.", registry=r)
        self.rejected = Counter("humansd_rejected", "Requests refused for want of room (429).", registry=r)

    def watch(self, name: str, what: str, value: Callable[[], float]) -> None:
        """A number that is asked for when the metrics are."""
        Gauge(name, what, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All of them as text."""
        return generate_latest(self.registry)
