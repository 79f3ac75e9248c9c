"""What every route needs: the engine, the owner, and a wait for a job that ends when the client leaves."""

from __future__ import annotations

import asyncio
import logging
import time

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from humansd.studio.engine import Engine
from humansd.studio.errors import StudioError
from humansd.studio.jobs import Job
from humansd.studio.wishes import GenerateRequest, check_count

log = logging.getLogger(__name__)
_LOOK_S = 1.0  # how often it is asked whether the client is still there


def engine_of(request: Request) -> Engine:
    """The engine of the application that serves this request."""
    engine: Engine = request.app.state.engine
    return engine


def owner_of(request: Request) -> str:
    """The digest of the request's API key, "" without keys."""
    return str(request.state.owner)


async def accept(request: Request, wanted: GenerateRequest, *, stored: bool) -> Job:
    """A job in the queue. StudioError before anything is decoded: 400 for more images than there ever is room for, 429
    where there is no room now; ValueError."""
    engine, owner = engine_of(request), owner_of(request)
    check_count(wanted.n, engine.settings.limits)
    engine.queue.check_room(owner, wanted.n)
    wish = await run_in_threadpool(engine.resolve, wanted)
    if engine.settings.log_prompts:
        log.info("prompt: %r", wanted.prompt)
    return await run_in_threadpool(lambda: engine.submit(wish, owner, stored=stored))


async def draw_now(request: Request, wanted: GenerateRequest, *, cancelled_too: bool = False) -> Job:
    """The finished job of a client that waits. StudioError where it failed, 504 after `Limits.sync_s`.

    cancelled_too: a job that another request cancelled is given, with the images that were done; else it is a 409.
    """
    engine = engine_of(request)
    job = await accept(request, wanted, stored=False)
    event = job.watch(end_only=True)
    end = time.monotonic() + engine.settings.limits.sync_s
    try:
        while not job.finished:
            try:
                async with asyncio.timeout(_LOOK_S):
                    await event.wait()
                event.clear()
            except TimeoutError:
                if await request.is_disconnected():
                    raise StudioError("the client left", status=499, code="left") from None
            if engine.stops_now:
                raise StudioError(
                    "the server stops before this is drawn; ask again soon", status=503, code="stopping", retry_after=10
                )
            if time.monotonic() > end:
                raise StudioError(
                    f"not done after {engine.settings.limits.sync_s:g} s; use /v1/jobs, which waits longer",
                    status=504,
                    code="timeout",
                )
    finally:
        job.unwatch(event)
        if not job.finished:
            engine.cancel(job)
        engine.forget(job)
    if job.state != "done" and not (cancelled_too and job.state == "cancelled"):
        raise StudioError(job.error, status=job.error_status, code=job.state)
    return job


def pngs_of(job: Job) -> list[bytes]:
    """The images of a job that is done."""
    return [png for png in job.results if png is not None]
