"""The engine: loaded models, one worker thread for each device, and the way of a job from acceptance to its images."""

from __future__ import annotations

import contextlib
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import ValidationError

from humansd.pose.people import People
from humansd.studio.content import blank, content_filter
from humansd.studio.drawing import Model, Pixels
from humansd.studio.images import png_bytes
from humansd.studio.jobs import Job, Queue, Unit
from humansd.studio.looking import Looker
from humansd.studio.metrics import Metrics
from humansd.studio.process import DrawingProcess
from humansd.studio.served import ServedModel
from humansd.studio.settings import StudioSettings
from humansd.studio.store import Store
from humansd.studio.wishes import GenerateRequest, Wish, resolve
from humansd.studio.workers import load_workers

log = logging.getLogger(__name__)
PREVIEWS = 6  # of an image, at most
_SWEEP_S = 5.0
_TELL_S = 2.0  # before the end
_FETCH_S = 3.0  # for what ended while the server stops


class Engine:
    """Owns the models. A pipeline is called by one thread alone; photographs are looked at by another."""

    def __init__(self, settings: StudioSettings, processes: Sequence[DrawingProcess] = ()) -> None:
        """processes: that load the models already, one a device. Nothing is drawn before `load` and `start`.

        Errors as of `content_filter` and `Store`.
        """
        self.settings = settings
        self.filter = content_filter(settings.content_filter)
        self.metrics = Metrics()
        self.queue = Queue(settings.limits.queue, settings.limits.queue_per_key, settings.limits.batch)
        self.workers: list[dict[str, ServedModel]] = []
        self._processes = list(processes)
        self.store = Store(Path(settings.state) / "jobs.sqlite" if settings.state else None)
        self.live: dict[str, Job] = {}
        self._looker = Looker(settings, self.metrics)
        self._ending = threading.Lock()
        self._filtering = threading.Lock()
        self._stop = threading.Event()
        self._switching = threading.Lock()
        self._started = False
        self._stopping = math.inf
        self._leaving = threading.Event()
        self._threads: list[threading.Thread] = []
        self.metrics.watch("humansd_queue_images", "Images that wait.", lambda: len(self.queue))
        self.metrics.watch("humansd_running_images", "Images being drawn.", lambda: self.queue.running)
        if settings.own_processes and not settings.ray and not processes:
            self._processes = [DrawingProcess(settings, device) for device in settings.devices]

    @property
    def models(self) -> Mapping[str, ServedModel]:
        """By name; for what they say of themselves."""
        return self.workers[0]

    @property
    def loaded(self) -> bool:
        """Whether the models are known; until then only `detect` may be asked."""
        return bool(self.workers)

    @property
    def started(self) -> bool:
        """Whether jobs may come."""
        return self._started

    @property
    def ready(self) -> bool:
        """Whether jobs are taken and drawn."""
        alive = all(thread.is_alive() for thread in self._threads)
        return self._started and alive and not self.queue.closed and not self.is_stopping

    def load(self) -> None:
        """Loads every model on every device, or waits for the processes that do. Errors as of `load_workers`."""
        self.workers = load_workers(self.settings, self._processes)
        if self.queue.closed:  # stopped meanwhile
            self._leave_ray()

    def start(self) -> int:
        """Starts the workers; returns how many jobs of an earlier run are drawn again."""
        again = self._take_up()
        with self._switching:
            if self.queue.closed:  # stopped meanwhile
                return 0
            self.queue.workers = len(self.workers)
            for number, models in enumerate(self.workers):
                self._threads.append(
                    threading.Thread(target=self._work, args=(models,), name=f"studio-worker-{number}", daemon=True)
                )
            self._threads.append(threading.Thread(target=self._sweep, name="studio-sweep", daemon=True))
            for thread in self._threads:
                thread.start()
            self._started = True
        return again

    def stopping(self) -> None:
        """The time to end begins now: what is begun or waited for is drawn, what the next run can draw is not begun."""
        if not self.is_stopping:
            self._stopping = time.monotonic()
            if self.queue.running or len(self.queue):
                told = "stopping; what is drawn has %g s to end, stored jobs that are left are drawn by the next run"
                log.warning(f"{told}; a second Ctrl+C stops at once", self.settings.shutdown_s)
            self.queue.leave(lambda job: bool(self.settings.state) and job.stored and job.state == "queued")
        if not self._started:
            self.queue.close()

    @property
    def is_stopping(self) -> bool:
        """Whether the server ends soon: nothing new is taken, and what there is can still be asked for."""
        return not math.isinf(self._stopping)

    @property
    def may_leave(self) -> bool:
        """Whether a server that stops has nothing more to do: all is drawn and fetched, or the time is over."""
        if not self._started or self.queue.closed or time.monotonic() > self._stopping + self.settings.shutdown_s:
            return True
        if self.queue.busy:
            return False
        stopped = time.time() - (time.monotonic() - self._stopping)
        return not self.store.unfetched(max(stopped, time.time() - _FETCH_S))

    def leave(self) -> float:
        """Who still waits is told so now; the seconds that are left."""
        self._leaving.set()
        return max(0.0, self._stopping + self.settings.shutdown_s - time.monotonic())

    @property
    def stops_now(self) -> bool:
        """Whether the time to end is almost over, and who waits should be told so."""
        late = time.monotonic() > self._stopping + max(0.0, self.settings.shutdown_s - _TELL_S)
        return late or self._leaving.is_set()

    def close(self, wait_s: float = 0.0) -> None:
        """Takes nothing more; what is drawn has `wait_s` to finish. The next run draws stored jobs that are left."""
        self.stopping()
        with self._switching:
            self.queue.close()
        wait_s = max(0.0, self._stopping + wait_s - time.monotonic())
        end = time.monotonic() + wait_s
        while self.queue.running and time.monotonic() < end:
            time.sleep(0.05)
        self._stop.set()
        if self.queue.running or not self.loaded:  # a process stops in the middle of a step, a thread after it
            for process in self._processes:
                process.end()
        for thread in self._threads:
            thread.join(timeout=30)
        for job in list(self.live.values()):
            if not job.finished and not job.stored:
                self._end(job, "failed", "the server stopped before this was drawn; ask again", 503)
        for process in self._processes:
            process.close()
        if self.loaded:
            self._leave_ray()
        self._looker.close()
        self.store.close()

    def _leave_ray(self) -> None:
        if self.settings.ray:
            from humansd.studio.ray_serve import close_ray

            try:
                close_ray()
            except Exception:
                log.exception("the replicas of Ray Serve were not taken down")

    # -- jobs -----------------------------------------------------------------------------------------------

    def resolve(self, request: GenerateRequest) -> Wish:
        """See `wishes.resolve`; waits for the estimator where a mask needs it."""
        return resolve(request, self.models, self.settings.limits, self.detect)

    def _again(self, request: str) -> Wish:
        """What was accepted by an earlier run, and so is not asked again whether it is too much."""
        wanted = GenerateRequest.model_validate_json(request)
        return resolve(wanted, self.models, self.settings.limits, self.detect, accepted=True)

    def submit(self, wish: Wish, owner: str = "", *, stored: bool) -> Job:
        """A job in the queue. stored: it is kept over a restart, and its images until they are fetched.

        Raises:
            StudioError: 429 where there is no room, 503 while the server stops.
        """
        job = Job(wish, owner, stored)

        def keep() -> None:
            if stored:
                self.store.add(job.id, owner, job.created, wish.request.model_dump_json())
            self.live[job.id] = job

        self.queue.put(job, before=keep)
        self.metrics.accepted.inc()
        return job

    def cancel(self, job: Job) -> None:
        """Its waiting images are not drawn, those being drawn are thrown away."""
        self.queue.drop(job)
        if not job.finished:
            self._end(job, "cancelled", "cancelled by another request", 409)

    def forget(self, job: Job) -> None:
        """Frees what an unstored job holds."""
        self.live.pop(job.id, None)

    def _take_up(self) -> int:
        rows = self.store.unfinished()
        for row in rows:
            try:
                wish = self._again(row.request)
            except (ValidationError, ValueError) as error:
                if getattr(error, "status", 0) in (429, 503, 504):  # not now; the next run asks again
                    continue
                self.store.finish(row.id, "failed", f"cannot be drawn any more: {error}"[:500])
                continue
            job = Job(wish, row.owner, True, row.id, row.created)
            self.live[job.id] = job
            self.queue.put(job, force=True)
        return len(rows)

    def _end(self, job: Job, state: str, error: str = "", status: int = 500) -> None:
        with self._ending:
            if job.finished:
                return
            if job.stored:
                pngs = [png for png in job.results if png is not None] if state == "done" else []
                self.store.finish(job.id, state, error, pngs)
                self.live.pop(job.id, None)
            job.error, job.error_status, job.state = error, status, state
        self.metrics.jobs.labels(state).inc()
        job.touch()

    def detect(self, image: Pixels, estimator: str = "") -> People:
        """See `Looker.detect`."""
        return self._looker.detect(image, estimator)

    # -- the workers ----------------------------------------------------------------------------------------

    def _work(self, models: Mapping[str, ServedModel]) -> None:
        while not self._stop.is_set():
            batch = self.queue.take(self.settings.limits.batch, 0.5)
            if not batch:
                if self.queue.closed:
                    return
                continue
            try:
                recipe = batch[0].task.recipe
                self._draw(models[recipe.model].by(recipe.method), batch)
            except Exception as error:
                if self._stop.is_set():
                    self._put_back(batch)
                    continue
                with contextlib.suppress(sqlite3.Error):  # a full disk: the job stays accepted for the next run
                    self._failed(batch, error)
            finally:
                self.queue.done(batch)
                for job in self.queue.jobs():
                    job.touch()  # it has moved up

    def _draw(self, model: Model, batch: list[Unit]) -> None:
        begun = time.monotonic()
        for unit in batch:
            if unit.job.state == "queued":
                unit.job.state, unit.job.begun = "running", time.time()
                unit.job.touch()
        limits, task, measured = self.settings.limits, batch[0].task, begun
        every = max(1, task.recipe.num_inference_steps // PREVIEWS)

        def on_step(step: int, images: Callable[[], list[Image.Image]]) -> bool:
            nonlocal measured
            before, measured = measured, time.monotonic()
            self.queue.pace.saw(task.recipe, len(batch), measured - before)
            wanted = [unit for unit in batch if unit.job.wish.request.preview and not unit.job.finished]
            made = images() if wanted and step % every == 0 and step < task.recipe.num_inference_steps else []
            if made:
                made, _ = self._checked(model, made)
            for number, unit in enumerate(batch):
                unit.job.steps[unit.index] = step
                if made and unit.job.wish.request.preview:
                    self._show(unit, png_bytes(made[number]))
                unit.job.touch()
            if time.monotonic() - begun > limits.draw_s:
                raise TimeoutError(f"drawing took longer than {limits.draw_s:g} s")
            return not self._stop.is_set() and not all(unit.job.finished for unit in batch)

        images = model.draw([unit.task for unit in batch], on_step)
        if self._stop.is_set():
            self._put_back(batch)
            return
        seconds = time.monotonic() - begun
        self.queue.pace.saw(task.recipe, 0, time.monotonic() - measured)
        self.metrics.batch_size.observe(len(batch))
        self.metrics.batch_seconds.labels(model.about.name).observe(seconds)
        self.metrics.images.labels(model.about.name).inc(len(batch))
        images, withheld = self._checked(model, images)
        for unit, image, hidden in zip(batch, images, withheld, strict=True):
            unit.job.results[unit.index] = png_bytes(image, _record(model, unit, hidden))
        for job in {id(unit.job): unit.job for unit in batch}.values():
            if all(result is not None for result in job.results):
                self._end(job, "done")
            else:
                job.touch()

    def _checked(self, model: Model, images: list[Image.Image]) -> tuple[list[Image.Image], list[bool]]:
        """The images as they may be shown, and which of them are withheld by the content filter."""
        if self.filter is None or not self.filter.covers(model):
            return images, [False] * len(images)
        with self._filtering:
            withheld = self.filter.withheld(images)
        self.metrics.withheld.inc(sum(withheld))
        return [blank(image) if hidden else image for image, hidden in zip(images, withheld, strict=True)], withheld

    def _show(self, unit: Unit, png: bytes) -> None:
        number, shown = unit.job.previews
        shown = list(shown) or [b""] * len(unit.job.results)
        shown[unit.index] = png
        unit.job.previews = (number + 1, shown)

    def _put_back(self, batch: list[Unit]) -> None:
        """The server stops: what is stored is drawn by the next run, the others are told."""
        for unit in batch:
            if not unit.job.stored:
                self._end(unit.job, "failed", "the server stopped before this was drawn; ask again", 503)

    def _failed(self, batch: list[Unit], error: Exception) -> None:
        mine = isinstance(error, ValueError)  # what a client can mend, as a strength without a step
        if not mine:
            log.exception("a batch of %d images failed", len(batch))
        told = str(error) if mine or isinstance(error, TimeoutError) else f"drawing failed ({type(error).__name__})"
        status = 422 if mine else 504 if isinstance(error, TimeoutError) else 500
        for job in {id(unit.job): unit.job for unit in batch}.values():
            self.queue.drop(job)
            self._end(job, "failed", told, status)

    def _sweep(self) -> None:
        while not self._stop.wait(_SWEEP_S):
            limits = self.settings.limits
            try:
                self.store.sweep(limits.keep_s, limits.fetched_s)
                late = time.time() - limits.queue_s
                for job in self.queue.jobs():
                    if job.created < late and job.state == "queued":
                        self.queue.drop(job)
                        self._end(job, "failed", "it waited too long; ask again", 504)
            except Exception:
                log.exception("sweeping failed")


def _record(model: Model, unit: Unit, hidden: bool) -> dict[str, Any]:
    record = model.info(unit.task)
    if hidden:
        record["withheld"] = True
    if unit.job.wish.notes:
        record["notes"] = list(unit.job.wish.notes)
    return record
