"""The WebUI's API (A1111) and that of its ControlNet extension, as far as images in poses need it."""

from __future__ import annotations

import json
import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from humansd import __version__
from humansd.pose.people import People
from humansd.pose.render import OPENPOSE_STYLE, draw_people
from humansd.studio import bridge_poses, controlnet, images
from humansd.studio.drawing import ImageTask
from humansd.studio.errors import NOT_DRAWN, REFUSED, StudioError
from humansd.studio.jobs import Job
from humansd.studio.serving import draw_now, engine_of, owner_of
from humansd.studio.wishes import POSE_EXAMPLE, GenerateRequest, Number, check_count

router = APIRouter(tags=["webui"])
# Names of WebUI's samplers -> ours. Others are refused; what is not named is the model's own.
SAMPLERS = {
    "DDIM": "ddim", "Euler": "euler", "Euler a": "euler-a", "LMS": "lms", "Heun": "heun", "DPM2": "dpm2",
    "DPM2 a": "dpm2-a", "DPM++ 2M": "dpm++-2m", "DPM++ 2M Karras": "dpm++-2m-karras", "DPM++ 2M SDE": "dpm++-2m-sde",
    "PLMS": "pndm", "UniPC": "unipc", "LCM": "lcm",
}  # fmt: skip
# What our messages call a field -> what WebUI's clients sent.
_FIELDS = {
    "num_inference_steps": "steps", "guidance_scale": "cfg_scale", "image": "init_images[0]",
    "strength": "denoising_strength",
}  # fmt: skip
_UNIT: dict[str, Any] = {"enabled": True, "module": "none", "model": "humansd", "pose": POSE_EXAMPLE}


class Txt2Img(BaseModel):
    """Fields of WebUI; the others that it knows are taken and not used."""

    model_config = ConfigDict(
        extra="ignore",
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
    prompt: str = Field(default="", max_length=10_000)
    negative_prompt: str | None = ""
    seed: int | None = Field(default=-1, ge=-1, lt=2**53)
    sampler_name: str | None = None
    sampler_index: str | None = None
    batch_size: int | None = Field(default=1, ge=1)
    n_iter: int | None = Field(default=1, ge=1)
    steps: int | None = Field(default=None, ge=1)
    cfg_scale: Number | None = Field(default=None, ge=0, le=100)
    width: int | None = Field(default=None, ge=1)
    height: int | None = Field(default=None, ge=1)
    override_settings: dict[str, Any] | None = None
    alwayson_scripts: dict[str, Any] | None = None
    send_images: bool = True


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


class DetectRequest(BaseModel):
    """Of the ControlNet extension."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={"examples": [{"controlnet_module": "openpose", "controlnet_input_images": ["<base64>"]}]},
    )
    controlnet_module: str = "none"
    controlnet_input_images: list[str] = Field(
        min_length=1, max_length=8, validation_alias=AliasChoices("controlnet_input_images", "controlnet_images")
    )


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


@router.get("/sdapi/v1/sd-models")
def sd_models(request: Request) -> list[dict[str, Any]]:
    """The models. No path of the server is told."""
    names = engine_of(request).models
    return [
        {"title": name, "model_name": name, "hash": None, "sha256": None, "filename": name, "config": None}
        for name in names
    ]


@router.get("/sdapi/v1/samplers")
def samplers() -> list[dict[str, Any]]:
    """WebUI's names of the samplers there are."""
    return [{"name": name, "aliases": [own], "options": {}} for name, own in SAMPLERS.items()]


@router.get("/sdapi/v1/scripts")
def scripts() -> dict[str, list[str]]:
    """What `alwayson_scripts` may hold; others are taken and not used."""
    return {"txt2img": ["controlnet"], "img2img": ["controlnet"]}


@router.get("/sdapi/v1/options")
def options(request: Request) -> dict[str, Any]:
    """The one option that clients look for."""
    return {"sd_model_checkpoint": next(iter(engine_of(request).models)), "sd_checkpoint_hash": ""}


@router.post("/sdapi/v1/options")
def set_options(request: Request, wanted: dict[str, Any]) -> None:
    """A client's options are its own: one of them cannot change what others get. The known model's name is taken."""
    _known_model(request, wanted.get("sd_model_checkpoint"))


@router.get("/controlnet/version")
def controlnet_version() -> dict[str, int]:
    """Of the extension whose requests are understood."""
    return {"version": 3}


@router.get("/controlnet/model_list")
def model_list(request: Request) -> dict[str, list[str]]:
    """Every model reads poses itself; a unit may name any of them."""
    return {"model_list": list(engine_of(request).models)}


@router.get("/controlnet/module_list")
def module_list() -> dict[str, Any]:
    """What a unit's image may be: a drawn skeleton ("none") or a photograph."""
    return {"module_list": list(controlnet.MODULES), "module_detail": {}}


@router.post("/controlnet/detect", responses=REFUSED)
def detect(request: Request, wanted: DetectRequest) -> dict[str, Any]:
    """The people of images, drawn as OpenPose does and as its JSON."""
    engine = engine_of(request)
    drawn, poses = [], []
    for text in wanted.controlnet_input_images:
        people = controlnet.people_of_image(engine, text, wanted.controlnet_module, "controlnet_input_images")
        drawn.append(images.to_base64(images.png_bytes(draw_people(people, OPENPOSE_STYLE))))
        poses.append(
            json.loads(bridge_poses.write_pose_bytes({"pose": people.to_skeleton(controlnet.WRITTEN)}, "openpose"))
        )
    return {"images": drawn, "poses": poses, "info": "Success"}


async def _draw(request: Request, wanted: Txt2Img, begin: dict[str, Any]) -> Generated:
    engine = engine_of(request)
    unit = await run_in_threadpool(controlnet.read_units, engine, wanted.alwayson_scripts or {})
    own = _own(request, wanted, unit.people, begin, unit.weight)
    try:
        job = await draw_now(request, own, cancelled_too=True)
    except StudioError as error:
        field, colon, rest = str(error).partition(":")
        told = f"{_FIELDS.get(field, field)}{colon}{rest}"
        raise StudioError(told, status=error.status, code=error.code, retry_after=error.retry_after) from None
    return await run_in_threadpool(_answer, job, wanted)


def _own(
    request: Request, wanted: Txt2Img, people: People | None, begin: dict[str, Any], weight: float | None
) -> GenerateRequest:
    name = wanted.sampler_name or wanted.sampler_index
    if name and name not in SAMPLERS and name != "Automatic":
        raise StudioError(f"sampler_name: {name[:40]!r} is not there; see /sdapi/v1/samplers", status=404)
    known = engine_of(request).models
    model = _known_model(request, (wanted.override_settings or {}).get("sd_model_checkpoint"))
    images_wanted = (wanted.batch_size or 1) * (wanted.n_iter or 1)
    check_count(images_wanted, engine_of(request).settings.limits, "batch_size times n_iter")
    scale = None
    if weight is not None:  # a ControlNet weight of 1 is the model's own
        scale = weight * known[model or next(iter(known))].by(None).defaults["pose_guidance_scale"]
    return GenerateRequest(
        prompt=wanted.prompt or " ",
        negative_prompt=wanted.negative_prompt or "",
        model=model,
        n=images_wanted,
        seed=None if wanted.seed in (None, -1) else wanted.seed,
        num_inference_steps=wanted.steps,
        guidance_scale=wanted.cfg_scale,
        pose_guidance_scale=scale,
        scheduler=SAMPLERS.get(name or "", ""),
        width=wanted.width,
        height=wanted.height,
        pose=None if people is None else people.to_json(),
        **begin,
    )


def _known_model(request: Request, name: Any) -> str | None:
    """The name of a model as a client gives it, None where it gives none. StudioError for another."""
    if name is None or (isinstance(name, str) and name in engine_of(request).models):
        return name
    raise StudioError(f"sd_model_checkpoint: {str(name)[:80]!r} is not there; see /sdapi/v1/sd-models", status=404)


def _inverted(request: Request, mask: str) -> str:
    limits = engine_of(request).settings.limits
    pixels = images.mask_image(images.from_base64(mask, "mask"), "mask", limits.image_pixels)
    return images.to_base64(images.png_bytes(255 - pixels))


def _answer(job: Job, wanted: Txt2Img) -> Generated:
    filled = job.wish.request
    drawn = [(task, png) for task, png in zip(job.wish.tasks, job.results, strict=True) if png is not None]
    done = [task for task, _ in drawn]
    info: dict[str, Any] = {
        "prompt": filled.prompt,
        "all_prompts": [task.prompt for task in done],
        "negative_prompt": filled.negative_prompt,
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
        "notes": list(job.wish.notes),
    }
    if job.state == "cancelled":
        info["interrupted"] = True
        info["notes"].append(f"interrupted after {len(done)} of {len(job.wish.tasks)} images")
    parameters = wanted.model_dump(exclude={"init_images", "mask", "alwayson_scripts"})
    shown = [images.to_base64(png) for _, png in drawn] if wanted.send_images else []
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
