"""Jobs, and the bounded queue that hands out those that can be drawn together."""

from __future__ import annotations

import asyncio
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from humansd.studio.drawing import ImageTask
from humansd.studio.errors import StudioError
from humansd.studio.wishes import Wish

DONE = ("done", "failed", "cancelled")


@dataclass(frozen=True, eq=False)
class _Watcher:
    loop: asyncio.AbstractEventLoop
    event: asyncio.Event
    end_only: bool


@dataclass(eq=False)
class Job:
    """One request on its way. Fields are changed under the queue's lock; `touch` tells those who watch.

    owner: of the API key ("" without keys). stored: kept in the database, so that a restart draws it.
    results: PNG of each image, None where it is not there yet. steps: done, of each image. preview: number of the
    preview and PNG of each image.
    """

    wish: Wish
    owner: str = ""
    stored: bool = False
    id: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    created: float = field(default_factory=time.time)
    state: str = "queued"
    error: str = ""
    error_status: int = 500
    results: list[bytes | None] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    previews: tuple[int, list[bytes]] = (0, [])
    begun: float = 0.0
    _watchers: list[_Watcher] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.results = [None] * len(self.wish.tasks)
        self.steps = [0] * len(self.wish.tasks)

    @property
    def finished(self) -> bool:
        """Nothing more will happen to it."""
        return self.state in DONE

    @property
    def progress(self) -> float:
        """0..1: the share of all steps that are done."""
        recipe = self.wish.tasks[0].recipe
        running = recipe.num_inference_steps
        if recipe.strength is not None:
            running = max(1, int(running * recipe.strength + 1e-9))
        done = sum(running if result is not None else step for result, step in zip(self.results, self.steps))
        return 1.0 if self.state == "done" else min(0.999, done / (running * len(self.steps)))

    def watch(self, *, end_only: bool = False) -> asyncio.Event:
        """An event of the running loop that is set at each change. To be given back with `unwatch`.

        end_only: set when the job is finished alone; who waits for nothing else need not be woken at each step.
        """
        watcher = _Watcher(asyncio.get_running_loop(), asyncio.Event(), end_only)
        self._watchers.append(watcher)
        return watcher.event

    def unwatch(self, event: asyncio.Event) -> None:
        """No more events."""
        self._watchers = [one for one in self._watchers if one.event is not event]

    def touch(self) -> None:
        """Tells those who watch; from any thread."""
        for one in list(self._watchers):
            if (self.finished or not one.end_only) and not one.loop.is_closed():
                one.loop.call_soon_threadsafe(one.event.set)


@dataclass(frozen=True, eq=False)
class Unit:
    """One image of a job."""

    job: Job
    index: int
    task: ImageTask


class Queue:
    """Images that wait, in the order in which they came. All methods may be called from any thread."""

    def __init__(self, most: int, most_per_owner: int) -> None:
        self._most, self._most_per_owner = most, most_per_owner
        self._units: deque[Unit] = deque()
        self._running: list[Unit] = []
        self._changed = threading.Condition()
        self._closed = False
        self.seconds_per_image = 1.0  # lately; for Retry-After

    def __len__(self) -> int:
        return len(self._units)

    @property
    def running(self) -> int:
        """Images that are being drawn."""
        return len(self._running)

    @property
    def closed(self) -> bool:
        """Nothing more is taken."""
        return self._closed

    def retry_after(self, images: int) -> int:
        """Seconds until there may be room for so many images."""
        over = max(1, len(self._units) + len(self._running) + images - self._most)
        return max(1, min(600, math.ceil(over * self.seconds_per_image)))

    def check_room(self, owner: str, images: int) -> None:
        """StudioError (429) where these images do not fit; 503 where the server is stopping."""
        with self._changed:
            self._check_room(owner, images)

    def put(self, job: Job, *, force: bool = False, before: Callable[[], object] = lambda: None) -> None:
        """Takes a job, or raises as `check_room`. before: done once there is room, before anybody can draw the job.

        force: jobs of an earlier run, which were accepted already.
        """
        with self._changed:
            if not force:
                self._check_room(job.owner, len(job.wish.tasks))
            before()
            self._units.extend(Unit(job, i, task) for i, task in enumerate(job.wish.tasks))
            self._changed.notify_all()

    def _check_room(self, owner: str, images: int) -> None:
        if self._closed:
            raise StudioError("the server is stopping; ask again soon", status=503, code="stopping", retry_after=10)
        units = [*self._units, *self._running]
        own = sum(unit.job.owner == owner for unit in units)
        if len(units) + images > self._most:
            what = f"the queue is full ({len(units)} images wait)"
        elif own + images > self._most_per_owner:
            what = f"{own} images of yours wait already, {self._most_per_owner} is the most"
        else:
            return
        wait = self.retry_after(images)
        raise StudioError(f"{what}; ask again in {wait} s", status=429, code="queue_full", retry_after=wait)

    def take(self, most: int, wait_s: float, models: Callable[[str], bool] = lambda name: True) -> list[Unit]:
        """The oldest image and, up to `most`, others that can be drawn with it; [] after `wait_s` without any."""
        end = time.monotonic() + wait_s
        with self._changed:
            while True:
                first = next((unit for unit in self._units if models(unit.task.recipe.model)), None)
                if first is not None or self._closed:
                    break
                left = end - time.monotonic()
                if left <= 0:
                    return []
                self._changed.wait(left)
            if first is None or self._closed:
                return []
            batch: list[Unit] = []
            rest: deque[Unit] = deque()
            for unit in self._units:
                fits = len(batch) < most and unit.task.batch_key == first.task.batch_key
                (batch if fits else rest).append(unit)
            self._units = rest
            self._running += batch
            return batch

    def done(self, batch: list[Unit]) -> None:
        """These are drawn."""
        gone = set(map(id, batch))
        with self._changed:
            self._running = [unit for unit in self._running if id(unit) not in gone]

    def drop(self, job: Job) -> None:
        """Takes a job's waiting images out."""
        with self._changed:
            self._units = deque(unit for unit in self._units if unit.job is not job)

    def jobs(self) -> list[Job]:
        """Those of which an image waits."""
        with self._changed:
            return list({id(unit.job): unit.job for unit in self._units}.values())

    def close(self) -> None:
        """Takes nothing more and hands out nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
