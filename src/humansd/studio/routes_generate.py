"""The studio's own API: images at once, jobs with events, models."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, Field

from humansd.studio import bridge_poses, drawing, pose_json
from humansd.studio.content import MISSING
from humansd.studio.engine import Engine
from humansd.studio.errors import NO_JOB, NO_MODEL, NOT_DRAWN, StudioError, not_found
from humansd.studio.images import png_info, to_base64
from humansd.studio.jobs import DONE, Job
from humansd.studio.serving import accept, draw_now, engine_of, owner_of, pngs_of
from humansd.studio.wishes import GenerateRequest, find_model

router = APIRouter(prefix="/v1", tags=["humansd"])
_LOOK_S = 1.0  # how often it is asked whether the server stops
_ALIVE_S = 10.0  # a comment is sent so often while nothing happens


class GeneratedImage(BaseModel):
    """One image. b64_json: PNG with `info` inside. withheld: the content filter shows plain grey in its place."""

    b64_json: str
    seed: int
    info: dict[str, Any]
    withheld: bool = False


class GenerateResponse(BaseModel):
    """Images, and the request with everything filled in that it left open."""

    created: int
    model: str
    data: list[GeneratedImage]
    pose: dict[str, Any] | None = Field(default=None, description="The wished pose on the canvas of the images.")
    notes: list[str] = Field(default_factory=list, description="What to know of the prompts, as words left out.")


class JobStatus(BaseModel):
    """A job. progress: 0..1."""

    id: str
    state: str
    progress: float
    position: int | None = Field(
        default=None,
        description="Images of other jobs that are drawn now or wait before this one's; 0 while it is drawn, null once "
        "it has ended.",
    )
    error: str | None = None
    created: float
    notes: list[str] = Field(default_factory=list, description="As its result has them; empty once it has ended.")


@router.post("/generate", response_model=GenerateResponse, responses={**NOT_DRAWN, 200: {"content": {"image/png": {}}}})
async def generate(request: Request, wanted: GenerateRequest) -> Any:
    """Images, when they are done. For long waits, progress and previews use /v1/jobs."""
    if wanted.response_format == "png" and wanted.n != 1:
        raise StudioError("response_format: png is one image; set n to 1", status=422)
    job = await draw_now(request, wanted)
    if wanted.response_format == "png":
        return Response(pngs_of(job)[0], media_type="image/png", headers={"x-seed": str(job.wish.tasks[0].seed)})
    return await run_in_threadpool(_answer, pngs_of(job))


@router.post("/jobs", status_code=202, response_model=JobStatus, responses=NOT_DRAWN)
async def new_job(request: Request, wanted: GenerateRequest, answer: Response) -> JobStatus:
    """Takes a job. Once this has answered, the job is drawn even if the server is killed in between."""
    job = await accept(request, wanted, stored=True)
    answer.headers["location"] = f"/v1/jobs/{job.id}"
    return _status(engine_of(request), job)


@router.get("/jobs/{id}", response_model=JobStatus, responses=NO_JOB)
def job_status(request: Request, id: str) -> JobStatus:
    """Where a job is."""
    engine = engine_of(request)
    job = _live(request, id)
    if job is not None:
        return _status(engine, job)
    row = _stored(request, id)
    return JobStatus(
        id=row.id,
        state=row.state,
        progress=1.0 if row.state == "done" else 0.0,
        error=row.error or None,
        created=row.created,
    )


@router.get(
    "/jobs/{id}/result",
    response_model=GenerateResponse,
    responses={**NO_JOB, 409: {"description": "Not done yet, failed or cancelled."}},
)
def job_result(request: Request, id: str) -> Any:
    """The images of a finished job. They are deleted a little later (30 s), and after an hour unless fetched."""
    engine = engine_of(request)
    if _live(request, id) is not None:
        raise StudioError("the job is not done yet; follow /v1/jobs/ID/events", status=409, code="not_done")
    row = _stored(request, id)
    if row.state != "done":
        raise StudioError(row.error or row.state, status=409, code=row.state)
    answer = _answer(engine.store.results(id))
    engine.store.mark_fetched(id)
    return answer


@router.delete("/jobs/{id}", status_code=204, responses=NO_JOB)
def delete_job(request: Request, id: str) -> Response:
    """Cancels a job, or deletes a finished one with its images."""
    engine = engine_of(request)
    job = _live(request, id)
    if job is not None:
        engine.cancel(job)
    else:
        _stored(request, id)
    engine.store.delete(id)
    return Response(status_code=204)


@router.get(
    "/jobs/{id}/events",
    responses={200: {"content": {"text/event-stream": {}}}, **NO_JOB},
)
async def job_events(request: Request, id: str) -> StreamingResponse:
    """Server-sent events: `progress` (JobStatus), `preview` ({"images": base64 PNG or null}), at last `end`."""
    engine = engine_of(request)
    job = _live(request, id)
    if job is None:
        status = await run_in_threadpool(job_status, request, id)
        lines: AsyncIterator[str] = _once(_event("end", status.model_dump()))
    else:
        lines = _events(engine, job)
    return StreamingResponse(lines, media_type="text/event-stream", headers={"cache-control": "no-store"})


@router.get("/models")
def models(request: Request) -> dict[str, Any]:
    """The models, in OpenAI's shape with what each of them can do."""
    engine = engine_of(request)
    data = []
    for name, served in engine.models.items():
        model = served.by(None)
        covered = engine.filter is not None and engine.filter.covers(model)
        data.append(
            {
                "id": name,
                "object": "model",
                "created": 0,
                "owned_by": "humansd",
                "methods": list(served.methods),
                "defaults": model.defaults,
                "method_defaults": {method: one.defaults for method, one in served.methods.items()},
                "ignores_pose": [method for method, one in served.methods.items() if not one.about.reads_pose],
                "size_step": model.about.size_step,
                "full_scale": model.about.full_scale,
                "content_filter": engine.filter.name if engine.filter is not None and covered else None,
                "content_filter_note": "" if covered else _unfiltered(engine),
            }
        )
    return {"object": "list", "data": data}


def _unfiltered(engine: Engine) -> str:
    """Why the images of a model are not looked at."""
    if engine.filter is not None:
        return "this small model's images are not filtered; --content-filter on does it"
    return "the content filter is switched off" if engine.settings.content_filter == "off" else MISSING


@router.get("/words", responses=NO_MODEL)
def words(request: Request, model: str | None = None) -> dict[str, Any]:
    """What a model that was trained on few words knows: lists by kind; null for one that reads any text."""
    known = find_model(engine_of(request).models, model).about.vocabulary
    return {"words": None if known is None else known.phrases}


@router.get("/studio")
def studio(request: Request) -> dict[str, Any]:
    """What the page needs to know: limits, skeletons, names."""
    engine = engine_of(request)
    limits = engine.settings.limits
    told = {name: getattr(limits, name) for name in ("people", "steps", "prompt", "side", "pixels")}
    return {
        "limits": told | {"count": limits.most_images},
        "skeletons": pose_json.skeletons(),
        "samplers": list(drawing.SAMPLERS),
        "formats": list(bridge_poses.POSE_FORMATS),
        "pose_endings": list(bridge_poses.POSE_ENDINGS),
        "estimators": {"default": bridge_poses.DEFAULT_ESTIMATOR, "held_out": bridge_poses.HELD_OUT_ESTIMATOR},
    }


def _live(request: Request, id: str) -> Job | None:
    job = engine_of(request).live.get(id)
    if job is not None and (job.owner != owner_of(request) or not job.stored):
        raise not_found(f"job {id!r}")
    return job


def _stored(request: Request, id: str) -> Any:
    row = engine_of(request).store.get(id)
    if row is None or row.owner != owner_of(request):
        raise not_found(f"job {id!r}")
    return row


def _status(engine: Engine, job: Job) -> JobStatus:
    position = None if job.finished else engine.queue.ahead(job) if job.state == "queued" else 0
    return JobStatus(
        id=job.id,
        state=job.state,
        progress=job.progress,
        position=position,
        error=job.error or None,
        created=job.created,
        notes=list(job.wish.notes),
    )


def _answer(pngs: list[bytes]) -> GenerateResponse:
    """What the images say of themselves, so that they are told as they are and not as they were wished."""
    infos = [png_info(png) for png in pngs]
    data = [
        GeneratedImage(b64_json=to_base64(png), seed=info["seed"], info=info, withheld=info.get("withheld", False))
        for png, info in zip(pngs, infos, strict=True)
    ]
    first = infos[0]
    return GenerateResponse(
        created=int(time.time()),
        model=first["settings"]["model"],
        data=data,
        pose=first.get("people"),
        notes=first.get("notes", []),
    )


def _event(name: str, value: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(value)}\n\n"


async def _once(text: str) -> AsyncIterator[str]:
    yield text


async def _events(engine: Engine, job: Job) -> AsyncIterator[str]:
    event, shown = job.watch(), 0
    try:
        while True:
            number, previews = job.previews
            if number > shown:
                shown = number
                yield _event("preview", {"images": [to_base64(png) if png else None for png in previews]})
            status = _status(engine, job).model_dump()
            yield _event("end" if job.state in DONE else "progress", status)
            if job.finished:
                return
            event.clear()
            told = time.monotonic()
            while not event.is_set():
                if engine.stops_now:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await event.wait()
                if time.monotonic() - told > _ALIVE_S:
                    told = time.monotonic()
                    yield ": alive\n\n"
    finally:
        job.unwatch(event)
