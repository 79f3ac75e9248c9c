"""Jobs, and the bounded queue that hands out those that can be drawn together."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
import secrets
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from humansd.studio.drawing import ImageTask
from humansd.studio.errors import StudioError
from humansd.studio.pace import Pace
from humansd.studio.wishes import Wish

DONE = ("done", "failed", "cancelled")
LONGEST_WAIT_S = 120  # that a client is told: who asks again later is told better


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
        running = self.wish.tasks[0].recipe.steps_to_draw
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
            if self.finished or not one.end_only:
                with contextlib.suppress(RuntimeError):  # its loop is closed: nobody watches any more
                    one.loop.call_soon_threadsafe(one.event.set)


@dataclass(frozen=True, eq=False)
class Unit:
    """One image of a job."""

    job: Job
    index: int
    task: ImageTask


class Queue:
    """Images that wait, in the order in which they came. All methods may be called from any thread."""

    def __init__(self, most: int, most_per_owner: int, batch: int = 1) -> None:
        """most, most_per_owner: images that wait or are drawn. batch: that are drawn at once."""
        self._most, self._most_per_owner, self._batch = most, most_per_owner, batch
        self._units: deque[Unit] = deque()
        self._running: list[list[Unit]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._left: Callable[[Job], bool] = lambda job: False
        self.pace = Pace()
        self.workers = 1

    def __len__(self) -> int:
        return len(self._units)

    @property
    def running(self) -> int:
        """Images that are being drawn."""
        return sum(map(len, list(self._running)))

    @property
    def busy(self) -> bool:
        """Whether an image is drawn, or one waits that will be."""
        with self._changed:
            return bool(self._running) or any(not self._left(unit.job) for unit in self._units)

    @property
    def closed(self) -> bool:
        """Nothing more is taken."""
        return self._closed

    def ahead(self, job: Job) -> int:
        """Images of others that are drawn, or wait before those of this job; 0 once one of its own is drawn."""
        with self._changed:
            if any(unit.job is job for batch in self._running for unit in batch):
                return 0
            before = next((i for i, unit in enumerate(self._units) if unit.job is job), len(self._units))
            return self.running + before

    def seconds_left(self, job: Job) -> float:
        """About how long it takes until all images of a job are drawn, those before it included."""
        with self._changed:
            return max((end for end, batch in self._plan() if any(unit.job is job for unit in batch)), default=0.0)

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
        units = [*self._units, *(unit for batch in self._running for unit in batch)]
        own = sum(unit.job.owner == owner for unit in units)
        over, over_own = len(units) + images - self._most, own + images - self._most_per_owner
        if over > 0:
            what = f"the queue is full ({len(units)} images wait or are drawn, {self._most} is the most)"
        elif over_own > 0:
            what = f"{own} images of yours wait or are drawn, {self._most_per_owner} is the most"
        else:
            return
        wait = max(1, min(LONGEST_WAIT_S, math.ceil(self._room_in(owner, over, over_own))))
        raise StudioError(f"{what}; ask again in {wait} s", status=429, code="queue_full", retry_after=wait)

    def _room_in(self, owner: str, over: int, over_own: int) -> float:
        """Seconds until so many images, and so many of this owner, are drawn."""
        for end, batch in self._plan():
            over -= len(batch)
            over_own -= sum(unit.job.owner == owner for unit in batch)
            if over <= 0 and over_own <= 0:
                return end
        return LONGEST_WAIT_S

    def _plan(self) -> list[tuple[float, list[Unit]]]:
        """What is drawn and what waits, in batches as they will be taken: (seconds from now to its end, batch)."""
        ends = [self._seconds(batch) for batch in self._running]
        plan = list(zip(ends, self._running, strict=True))
        free = [*ends, *([0.0] * (self.workers - len(ends)))]
        heapq.heapify(free)
        alike: dict[tuple[object, ...], list[tuple[int, Unit]]] = defaultdict(list)
        for number, unit in enumerate(self._units):
            alike[unit.task.batch_key].append((number, unit))
        batches = [own[i : i + self._batch] for own in alike.values() for i in range(0, len(own), self._batch)]
        for batch in sorted(batches, key=lambda one: one[0][0]):
            units = [unit for _, unit in batch]
            end = heapq.heappop(free) + self._seconds(units)
            heapq.heappush(free, end)
            plan.append((end, units))
        return sorted(plan, key=lambda one: one[0])

    def _seconds(self, batch: list[Unit]) -> float:
        """That are left to draw these."""
        left = 0.0
        for unit in batch:
            recipe, done = unit.task.recipe, unit.job.steps[unit.index]
            if not unit.job.finished:
                left += self.pace.seconds(recipe) * max(0, recipe.steps_to_draw - done) / recipe.steps_to_draw
        return left

    def take(self, most: int, wait_s: float) -> list[Unit]:
        """The oldest image and, up to `most`, others that can be drawn with it; [] after `wait_s` without any."""
        end = time.monotonic() + wait_s
        with self._changed:
            while True:
                first = next((unit for unit in self._units if not self._left(unit.job)), None)
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
                alike = unit.task.batch_key == first.task.batch_key and not self._left(unit.job)
                fits = alike and len(batch) < most
                (batch if fits else rest).append(unit)
            self._units = rest
            self._running.append(batch)
            return batch

    def done(self, batch: list[Unit]) -> None:
        """These are drawn."""
        with self._changed:
            self._running = [one for one in self._running if one is not batch]

    def drop(self, job: Job) -> None:
        """Takes a job's waiting images out."""
        with self._changed:
            self._units = deque(unit for unit in self._units if unit.job is not job)

    def jobs(self) -> list[Job]:
        """Those of which an image waits."""
        with self._changed:
            return list({id(unit.job): unit.job for unit in self._units}.values())

    def leave(self, left: Callable[[Job], bool]) -> None:
        """Hands out no image of these jobs from now on; those of the others still are."""
        with self._changed:
            self._left = left

    def close(self) -> None:
        """Takes nothing more and hands out nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
