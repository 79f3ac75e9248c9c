"""The WebUI's API (A1111), as far as images in poses need it."""

from __future__ import annotations

import json
import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from humansd import __version__
from humansd.studio import controlnet, images, webui_fields, weights
from humansd.studio.drawing import ImageTask
from humansd.studio.errors import NOT_DRAWN, StudioError
from humansd.studio.jobs import Job
from humansd.studio.routes_webui_lists import known_model
from humansd.studio.serving import draw_now, engine_of, owner_of
from humansd.studio.wishes import POSE_EXAMPLE, GenerateRequest, Number, check_count

router = APIRouter(tags=["webui"])
# What our messages call a field -> what WebUI's clients sent.
_FIELDS = {
    "num_inference_steps": "steps", "guidance_scale": "cfg_scale", "image": "init_images[0]",
    "strength": "denoising_strength",
}  # fmt: skip
_UNIT: dict[str, Any] = {"enabled": True, "module": "none", "model": "humansd", "pose": POSE_EXAMPLE}


class Txt2Img(BaseModel):
    """Fields of WebUI. Others are taken and not used; of those that would change the image the answer's notes tell."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "prompt": "photo, a woman in a park",
                    "steps": 12,
                    "width": 128,
                    "height": 128,
                    "alwayson_scripts": {"controlnet": {"args": [_UNIT]}},
                }
            ]
        },
    )
    prompt: str | None = Field(default="", max_length=10_000)
    negative_prompt: str | None = ""
    seed: int | None = Field(default=-1, ge=-1, lt=2**53)
    sampler_name: str | None = None
    sampler_index: str | None = None
    scheduler: str | None = None
    batch_size: int | None = Field(default=1, ge=1)
    n_iter: int | None = Field(default=1, ge=1)
    steps: int | None = Field(default=None, ge=1)
    cfg_scale: Number | None = Field(default=None, ge=0, le=100)
    width: int | None = Field(default=None, ge=1)
    height: int | None = Field(default=None, ge=1)
    override_settings: dict[str, Any] | None = None
    alwayson_scripts: dict[str, Any] | None = None
    send_images: bool | None = True


class Img2Img(Txt2Img):
    """As `Txt2Img`, with an image to begin with."""

    init_images: list[str] | None = Field(default=None, max_length=1)
    mask: str | None = None
    denoising_strength: Number | None = Field(default=0.75, gt=0, le=1)
    inpainting_mask_invert: int | bool | None = 0


class Generated(BaseModel):
    """As WebUI answers: PNG in base64, what was asked for, and `info` as JSON text."""

    images: list[str]
    parameters: dict[str, Any]
    info: str


@router.post("/sdapi/v1/txt2img", response_model=Generated, responses=NOT_DRAWN)
async def txt2img(request: Request, wanted: Txt2Img) -> Generated:
    """Images of a prompt, with the pose of a ControlNet unit."""
    return await _draw(request, wanted, {})


@router.post("/sdapi/v1/img2img", response_model=Generated, responses=NOT_DRAWN)
async def img2img(request: Request, wanted: Img2Img) -> Generated:
    """Images that begin with one, or are drawn in a mask."""
    if not wanted.init_images:
        raise StudioError("init_images: is missing; send one image in base64", status=422)
    begin: dict[str, Any] = {"image": wanted.init_images[0], "strength": wanted.denoising_strength}
    if wanted.mask:
        begin["mask"] = wanted.mask
        if wanted.inpainting_mask_invert:
            begin["mask"] = await run_in_threadpool(_inverted, request, wanted.mask)
    return await _draw(request, wanted, begin)


@router.get("/sdapi/v1/progress")
def progress(request: Request, skip_current_image: bool = False) -> dict[str, Any]:
    """How far the caller's oldest image is."""
    engine, owner = engine_of(request), owner_of(request)
    mine = [job for job in list(engine.live.values()) if job.owner == owner and not job.finished]
    job = min(mine, key=lambda one: one.created, default=None)
    done, steps = (0.0, 0) if job is None else (job.progress, job.wish.tasks[0].recipe.num_inference_steps)
    left = engine.queue.seconds_left(job) if job else 0.0
    state = {
        "job": "" if job is None else job.id[:8],
        "job_count": len(mine),
        "job_no": 0,
        "sampling_step": int(done * steps),
        "sampling_steps": steps,
        "interrupted": False,
        "skipped": False,
    }
    return {"progress": done, "eta_relative": left, "state": state, "current_image": None, "textinfo": None}


@router.post("/sdapi/v1/interrupt")
def interrupt(request: Request) -> dict[str, Any]:
    """Stops the caller's images that are waited for; `txt2img` and `img2img` answer with those that are done."""
    engine, owner = engine_of(request), owner_of(request)
    for job in list(engine.live.values()):
        if job.owner == owner and not job.stored:
            engine.cancel(job)
    return {}


async def _draw(request: Request, wanted: Txt2Img, begin: dict[str, Any]) -> Generated:
    own, notes = await run_in_threadpool(_own, request, wanted, begin)
    try:
        job = await draw_now(request, own, cancelled_too=True)
    except StudioError as error:
        field, colon, rest = str(error).partition(":")
        told = f"{_FIELDS.get(field, field)}{colon}{rest}"
        raise StudioError(told, status=error.status, code=error.code, retry_after=error.retry_after) from None
    return await run_in_threadpool(_answer, job, wanted, notes)


def _own(request: Request, wanted: Txt2Img, begin: dict[str, Any]) -> tuple[GenerateRequest, list[str]]:
    """The request in our words, and what is not done of it."""
    engine, more = engine_of(request), wanted.model_extra or {}
    options, scripts = wanted.override_settings or {}, wanted.alwayson_scripts or {}
    scheduler = webui_fields.sampler(wanted.sampler_name or wanted.sampler_index, wanted.scheduler)
    model = known_model(request, options.get("sd_model_checkpoint"), "override_settings.sd_model_checkpoint")
    images_wanted = (wanted.batch_size or 1) * (wanted.n_iter or 1)
    check_count(images_wanted, engine.settings.limits, "batch_size times n_iter")
    notes = webui_fields.unread(more, scripts, options, mask="mask" in begin)
    prompt, negative = wanted.prompt or "", wanted.negative_prompt or ""
    if max(len(prompt), len(negative)) <= engine.settings.limits.prompt:  # longer ones are refused
        prompt, told = weights.from_webui("prompt", prompt)
        negative, told_too = weights.from_webui("negative_prompt", negative)
        notes += told + told_too
    skip = webui_fields.clip_skip(options)
    served = engine.models[model or next(iter(engine.models))].by(None)
    if skip and served.about.weighs and (weights.has_weights(prompt) or weights.has_weights(negative)):
        notes.append("override_settings.CLIP_stop_at_last_layers: is not read beside weights as in (red:1.3)")
        skip = None
    unit = controlnet.read_units(engine, scripts, more.get("controlnet_units"))
    notes += unit.notes
    # a ControlNet weight of 1 is the model's own
    scale = None if unit.weight is None else unit.weight * served.defaults["pose_guidance_scale"]
    own = GenerateRequest(
        prompt=prompt or " ",
        negative_prompt=negative,
        model=model,
        n=images_wanted,
        seed=None if wanted.seed in (None, -1) else wanted.seed,
        num_inference_steps=wanted.steps,
        guidance_scale=wanted.cfg_scale,
        pose_guidance_scale=scale,
        scheduler=scheduler,
        clip_skip=skip,
        width=wanted.width,
        height=wanted.height,
        pose=None if unit.people is None else unit.people.to_json(),
        **begin,
    )
    return own, notes


def _inverted(request: Request, mask: str) -> str:
    limits = engine_of(request).settings.limits
    pixels = images.mask_image(images.from_base64(mask, "mask"), "mask", limits.image_pixels)
    return images.to_base64(images.png_bytes(255 - pixels))


def _answer(job: Job, wanted: Txt2Img, notes: list[str]) -> Generated:
    filled = job.wish.request
    drawn = [(task, png) for task, png in zip(job.wish.tasks, job.results, strict=True) if png is not None]
    done = [task for task, _ in drawn]
    info: dict[str, Any] = {
        "prompt": wanted.prompt,
        "all_prompts": [task.prompt for task in done],
        "negative_prompt": wanted.negative_prompt or "",
        "seed": filled.seed,
        "all_seeds": [task.seed for task in done],
        "width": filled.width,
        "height": filled.height,
        "steps": filled.num_inference_steps,
        "cfg_scale": filled.guidance_scale,
        "sampler_name": wanted.sampler_name or wanted.sampler_index or "",
        "sd_model_name": filled.model,
        "batch_size": len(done),
        "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.gmtime(job.created)),
        "infotexts": [images.parameters_text(record) for record in _records(filled, done)],
        "version": f"humansd {__version__}",
        "notes": [*notes, *job.wish.notes],
    }
    if job.state == "cancelled":
        info["interrupted"] = True
        info["notes"].append(f"interrupted after {len(done)} of {len(job.wish.tasks)} images")
    told = set(type(wanted).model_fields) - {"init_images", "mask", "alwayson_scripts"}
    parameters = wanted.model_dump(include=told)
    shown = [images.to_base64(png) for _, png in drawn] if wanted.send_images is not False else []
    return Generated(images=shown, parameters=parameters, info=json.dumps(info))


def _records(filled: GenerateRequest, tasks: list[ImageTask]) -> list[dict[str, Any]]:
    settings = {
        "humansd": __version__,
        "model": filled.model,
        "num_inference_steps": filled.num_inference_steps,
        "guidance_scale": filled.guidance_scale,
        "pose_guidance_scale": filled.pose_guidance_scale,
        "scheduler": filled.scheduler,
        "size": [filled.width, filled.height],
    }
    return [
        {"prompt": task.prompt, "negative_prompt": task.negative_prompt, "seed": task.seed, "settings": settings}
        for task in tasks
    ]
