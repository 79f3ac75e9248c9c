"""OpenAI's images API, with plain extra fields for the pose and how it is drawn."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from starlette.datastructures import FormData, UploadFile

from humansd.pose.errors import PoseError
from humansd.studio import images
from humansd.studio.errors import NOT_DRAWN, StudioError
from humansd.studio.field_errors import meant
from humansd.studio.serving import draw_now, engine_of, pngs_of
from humansd.studio.wishes import OR_CANVAS, POSE_EXAMPLE, GenerateRequest, Number

router = APIRouter(prefix="/v1/images", tags=["openai"])
_EXTRA = ("negative_prompt", "num_inference_steps", "guidance_scale", "pose_guidance_scale", "seed", "strength")
# What would change an image at OpenAI, and the values that ask for nothing: a note tells of others.
_UNREAD: dict[str, tuple[Any, ...]] = {
    "quality": (None, "", "auto", "standard"), "style": (None, ""), "background": (None, "", "auto", "opaque"),
    "input_fidelity": (None, "", "low"),
}  # fmt: skip
_MOST_NAMES = 64  # that are looked at
_FORM_TYPES: dict[str, Any] = {
    "n": int, "num_inference_steps": int, "seed": int, "guidance_scale": float, "pose_guidance_scale": float,
    "strength": float,
}  # fmt: skip


class ImagesRequest(BaseModel):
    """Fields of OpenAI's images API; those that mean nothing here are taken and not used (user, moderation ...)."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [{"prompt": "photo, a woman in a park", "size": "128x128", "pose": POSE_EXAMPLE, "seed": 3}]
        },
    )
    prompt: str = Field(min_length=1)
    model: str | None = Field(default=None, max_length=200)
    n: int | None = Field(default=1, ge=1)
    size: str | None = Field(default=None, pattern=r"^(auto|[1-9]\d{0,4}x[1-9]\d{0,4})$")
    response_format: Literal["b64_json", "url"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    stream: bool | None = None
    pose: dict[str, Any] | list[Any] | None = None
    pose_image: str | None = None
    negative_prompt: str = ""
    num_inference_steps: int | None = Field(default=None, ge=1)
    guidance_scale: Number | None = Field(default=None, ge=0, le=100)
    pose_guidance_scale: Number | None = Field(default=None, ge=0, le=100)
    seed: int | None = None
    strength: Number | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _not_misnamed(cls, values: Any) -> Any:
        """OpenAI's other fields are let through; one that means a field of ours is not passed over."""
        problem = _misnamed(values) if isinstance(values, dict) else ""
        if problem:
            raise PydanticCustomError("misnamed", "{problem}", {"problem": problem})
        return values


def _misnamed(names: Iterable[str]) -> str:
    """What is wrong with the first name that is another tool's, or a misspelling, of one of our own fields; else ""."""
    for name in itertools.islice(names, _MOST_NAMES):
        near = None if name in ImagesRequest.model_fields else meant(name, _EXTRA)
        if near:
            return f"{name}: there is no such field; write {near}"
    return ""


class ImageData(BaseModel):
    """One image."""

    b64_json: str
    revised_prompt: str | None = None
    seed: int


class ImagesResponse(BaseModel):
    """As OpenAI answers."""

    created: int
    data: list[ImageData]
    notes: list[str] = Field(default_factory=list, description="What to know of the request, as words left out.")
    output_format: str = "png"
    size: str


@router.post("/generations", response_model=ImagesResponse, responses=NOT_DRAWN)
async def generations(request: Request, wanted: ImagesRequest) -> ImagesResponse:
    """OpenAI's `images.generate`."""
    return await _answer(request, _own(request, wanted), _unread(wanted.model_extra or {}))


@router.post(
    "/edits",
    response_model=ImagesResponse,
    responses=NOT_DRAWN,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["prompt", "image"],
                        "properties": {
                            "prompt": {"type": "string"},
                            "image": {"type": "string", "format": "binary"},
                            "mask": {"type": "string", "format": "binary"},
                            "n": {"type": "integer"},
                            "size": {"type": "string"},
                            "pose": {"type": "string", "description": "Pose JSON as text."},
                            "seed": {"type": "integer"},
                            "negative_prompt": {"type": "string"},
                            "num_inference_steps": {"type": "integer"},
                            "guidance_scale": {"type": "number"},
                            "pose_guidance_scale": {"type": "number"},
                            "strength": {"type": "number"},
                        },
                    }
                }
            },
        }
    },
)
async def edits(request: Request) -> ImagesResponse:
    """OpenAI's `images.edit`: an image drawn anew, or where the mask is transparent."""
    try:
        form = await request.form(max_files=4, max_fields=200)
    except StudioError:
        raise
    except (ValueError, KeyError, AssertionError):
        raise StudioError("the body is no multipart form; send prompt and image as form fields", status=422) from None
    own, notes = await _edit_request(request, form)
    return await _answer(request, own, notes)


async def _edit_request(request: Request, form: FormData) -> tuple[GenerateRequest, list[str]]:
    files = {name: value for name, value in form.multi_items() if isinstance(value, UploadFile)}
    fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
    images_sent = [value for name, value in form.multi_items() if name in ("image", "image[]") and name in files]
    if len(images_sent) != 1 or not isinstance(images_sent[0], UploadFile):
        what = f"{len(images_sent)} are sent" if images_sent else "is missing"
        raise StudioError(f"image: {what}; send one image as a file", status=422)
    image = images_sent[0]
    if problem := _misnamed(fields):
        raise StudioError(problem, status=422)
    values: dict[str, Any] = {}
    for name in ("prompt", "model", "n", "size", "response_format", "output_format", "stream", *_EXTRA):
        if name in fields:
            values[name] = _typed(name, fields[name])
    pose = _nested(fields)
    if pose is not None:
        values["pose"] = pose
    limits = engine_of(request).settings.limits
    data = await image.read()
    mask = await files["mask"].read() if "mask" in files else None

    def decode() -> dict[str, str]:
        begin = images.rgb_image(data, "image", limits.image_pixels)
        found = {"image": images.to_base64(images.png_bytes(begin))}
        if mask is not None:
            drawn = images.mask_image(mask, "mask", limits.image_pixels, alpha=True)
            found["mask"] = images.to_base64(images.png_bytes(drawn))
        return found

    begin = await run_in_threadpool(decode)
    return _own(request, ImagesRequest.model_validate(values)).model_copy(update=begin), _unread(fields)


def _unread(fields: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: is not read; the prompt says what an image is like, num_inference_steps how fine it is"
        for name, nothing in _UNREAD.items()
        if name in fields and fields[name] not in nothing
    ]


def _typed(name: str, text: str) -> Any:
    kind = _FORM_TYPES.get(name, str)
    try:
        return kind(text)
    except ValueError:
        raise StudioError(f"{name}: {text[:40]!r} is no number", status=422) from None


def _nested(fields: dict[str, str]) -> Any:
    """The pose of a form: JSON as text, or what the OpenAI client makes of a dict (pose[people][0] ...)."""
    if "pose" in fields:
        try:
            return json.loads(fields["pose"])
        except (ValueError, RecursionError):
            raise StudioError("pose: is no JSON", status=422) from None
    if any(name.startswith("pose[") for name in fields):
        raise StudioError("pose: send it as one text of JSON, json.dumps(pose), in a form", status=422)
    return None


def _own(request: Request, wanted: ImagesRequest) -> GenerateRequest:
    if wanted.response_format == "url":
        raise StudioError("response_format: images have no address here; use b64_json", status=422)
    if wanted.stream:
        raise StudioError("stream: images come when they are done; leave it out, or follow /v1/jobs", status=422)
    if wanted.output_format not in (None, "png"):
        raise StudioError("output_format: images are PNG, which carries how they were made; use png", status=422)
    width = height = None
    if wanted.size not in (None, "auto"):
        width, height = map(int, str(wanted.size).split("x"))
    known = engine_of(request).models
    # Clients send the names of OpenAI's own models; those mean the first one here.
    model = (
        None if wanted.model not in known and (wanted.model or "").startswith(("dall-e", "gpt-image")) else wanted.model
    )
    return GenerateRequest(
        prompt=wanted.prompt,
        negative_prompt=wanted.negative_prompt,
        model=model,
        n=wanted.n or 1,
        pose=wanted.pose,
        pose_image=wanted.pose_image,
        width=width,
        height=height,
        num_inference_steps=wanted.num_inference_steps,
        guidance_scale=wanted.guidance_scale,
        pose_guidance_scale=wanted.pose_guidance_scale,
        seed=wanted.seed,
        strength=wanted.strength,
    )


async def _answer(request: Request, own: GenerateRequest, notes: list[str]) -> ImagesResponse:
    try:
        job = await draw_now(request, own)
    except PoseError as error:  # this API has the size alone, which is the canvas too
        raise StudioError(str(error).replace(OR_CANVAS, "or send `size`"), status=422) from None
    pairs = zip(job.wish.tasks, pngs_of(job), strict=True)
    data = [
        ImageData(
            b64_json=images.to_base64(png),
            revised_prompt=None if task.prompt == own.prompt else task.prompt,
            seed=task.seed,
        )
        for task, png in pairs
    ]
    width, height = job.wish.tasks[0].recipe.size
    notes = [*notes, *job.wish.notes]
    return ImagesResponse(created=int(time.time()), data=data, notes=notes, size=f"{width}x{height}")
