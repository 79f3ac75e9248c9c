"""What a client asks for, in the project's own words, and how it becomes tasks for a model."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from humansd.pipelines.start_images import check_mask, repose_mask
from humansd.pose.errors import PoseError
from humansd.pose.people import People
from humansd.studio import images
from humansd.studio.bridge_poses import IN_THE_POSE, read_pose_bytes
from humansd.studio.drawing import SAMPLERS, ImageTask, Model, Pixels, Recipe
from humansd.studio.errors import StudioError, not_found
from humansd.studio.pose_json import dump
from humansd.studio.prompts import prepared
from humansd.studio.served import ServedModel
from humansd.studio.settings import Limits

MOST_TIMES = 16  # a model's own area: more takes minutes an image, and shows no people any more
LARGEST_SEED = 2**53  # a whole number in every client's JSON
SAME_SHAPE = 0.02  # relative difference of shapes that rounding to whole pixels may make
OR_CANVAS = "or send `canvas` as [width, height]"
Number = Annotated[float, Field(allow_inf_nan=False)]
POSE_EXAMPLE: dict[str, Any] = {
    "canvas_width": 128,
    "canvas_height": 128,
    "people": [
        {
            "pose_keypoints_2d": [
                *(64, 24, 1, 64, 38, 1, 53, 39, 1, 48, 55, 1, 46, 70, 1, 75, 39, 1, 80, 55, 1, 82, 70, 1),
                *(57, 70, 1, 56, 92, 1, 56, 114, 1, 71, 70, 1, 72, 92, 1, 72, 114, 1),
                *(61, 21, 1, 67, 21, 1, 58, 23, 1, 70, 23, 1),
            ]
        }
    ],
}


class GenerateRequest(BaseModel):
    """One request for images. What is left out is the model's own."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"prompt": "photo, a woman in a red coat in a park", "pose": POSE_EXAMPLE, "seed": 1},
                {"prompt": "oil painting, a man in a green jacket", "n": 2, "num_inference_steps": 12},
            ]
        },
    )

    prompt: str = Field(min_length=1, description="What the image shows.")
    negative_prompt: str = Field(default="", description="What it should not show.")
    model: str | None = Field(default=None, max_length=200, description="A name of /v1/models; default: the first.")
    method: str | None = Field(
        default=None, max_length=40, description="How it is conditioned, of /v1/models; default: its first."
    )
    pose: dict[str, Any] | list[Any] | None = Field(
        default=None, description="A pose: humansd, OpenPose, COCO or Human-Art JSON, as it stands in the file."
    )
    pose_image: str | None = Field(default=None, description="A drawn skeleton in base64, used as it is.")
    canvas: tuple[int, int] | None = Field(
        default=None, description="(width, height) px, for poses that do not name theirs."
    )
    n: int = Field(default=1, ge=1, description="Images; image i has the seed `seed + i`.")
    seed: int | None = Field(default=None, ge=0, lt=LARGEST_SEED, description="Default: another each time.")
    num_inference_steps: int | None = Field(default=None, ge=1)
    guidance_scale: Number | None = Field(default=None, ge=0, le=100)
    pose_guidance_scale: Number | None = Field(default=None, ge=0, le=100)
    guidance_rescale: Number = Field(default=0.0, ge=0, le=1)
    clip_skip: int | None = Field(default=None, ge=1, le=12)
    scheduler: str = Field(default="", max_length=40, description="A name of /v1/models; default: the model's own.")
    width: int | None = Field(default=None, ge=1, description="px")
    height: int | None = Field(default=None, ge=1, description="px")
    image: str | None = Field(default=None, description="An image to begin with, in base64.")
    strength: Number | None = Field(default=None, gt=0, le=1, description="How much of it may change.")
    mask: str | None = Field(
        default=None, description='Grey image in base64, white where it is drawn; "pose": around those who move.'
    )
    image_pose: dict[str, Any] | list[Any] | None = Field(
        default=None, description='The pose in `image`, for mask "pose"; default: the estimator looks.'
    )
    preview: bool = Field(default=False, description="Send images with the progress events of a job.")
    response_format: Literal["b64_json", "png"] = Field(
        default="b64_json", description="png: the one image itself, when n is 1."
    )


@dataclass(frozen=True, eq=False)
class Wish:
    """A request that can be carried out: one task per image, and the request with nothing left open.

    notes: what the client should know of its prompts. The tasks have them as they are drawn, the request as sent.
    """

    request: GenerateRequest
    tasks: tuple[ImageTask, ...]
    notes: tuple[str, ...] = ()

    @property
    def people(self) -> People | None:
        """The wished pose on the canvas of the result, or None."""
        task = self.tasks[0]
        return task.pose.fit(*task.recipe.size) if isinstance(task.pose, People) else None


def resolve(
    request: GenerateRequest,
    models: Mapping[str, ServedModel],
    limits: Limits,
    detect: Callable[[Pixels], People],
    *,
    accepted: bool = False,
) -> Wish:
    """Checks a request against the limits and fills in the model's own values.

    accepted: by an earlier run, so that its size is not asked again.

    Raises:
        StudioError, ValueError (PoseError): what cannot be served; the message names the field and the remedy.
    """
    model = find_model(models, request.model, request.method)
    _check_limits(request, limits)
    about = model.about
    prompt, negative, notes = prepared(
        request.prompt, request.negative_prompt, about.vocabulary, weighs=about.weighs, clip_skip=request.clip_skip
    )
    pose = _pose(request, limits)
    image = None
    if request.image is not None:
        image = images.rgb_image(images.from_base64(request.image, "image"), "image", limits.image_pixels)
    width, height = model.size(request.width, request.height, image)
    if max(width, height) > limits.side or width * height > limits.pixels:
        raise StudioError(
            f"width, height: {width} x {height} px is more than this server draws; {limits.side} px a side and "
            f"{limits.pixels} px in all at most"
        )
    own_width, own_height = model.about.default_size
    if width * height > MOST_TIMES * own_width * own_height and not accepted:
        given = request.width or request.height
        remedy = f"leave them out for {own_width} x {own_height} px" if given else "crop the image"
        raise StudioError(
            f"width, height: {width} x {height} px is far from what {model.about.name} was made for; {remedy}, or ask "
            f"for {MOST_TIMES} times its area at most"
        )
    mask, seen = _mask(request, image, pose, limits, detect)
    own = model.defaults
    seed = secrets.randbelow(2**31) if request.seed is None else request.seed
    strength = None
    if image is not None:
        strength = (0.6 if mask is None else 1.0) if request.strength is None else request.strength
    filled = request.model_copy(
        update={
            "model": model.about.name,
            "method": model.about.method,
            "seed": seed,
            "width": width,
            "height": height,
            "num_inference_steps": request.num_inference_steps or own["num_inference_steps"],
            "guidance_scale": own["guidance_scale"] if request.guidance_scale is None else request.guidance_scale,
            "pose_guidance_scale": own["pose_guidance_scale"]
            if request.pose_guidance_scale is None
            else request.pose_guidance_scale,
            "strength": strength,
            "image_pose": request.image_pose if seen is None else seen.to_json(),
        }
    )
    recipe = _recipe(filled, strength)
    tasks = tuple(ImageTask(recipe, prompt, negative, seed + i, pose, image, mask) for i in range(request.n))
    return Wish(filled, tasks, (*notes, *shape_notes(pose, (width, height))))


def shape_notes(pose: People | Pixels | None, size: tuple[int, int]) -> list[str]:
    """What a client should know whose pose was made for an image of another shape."""
    if pose is None:
        return []
    canvas = pose.canvas if isinstance(pose, People) else (pose.shape[1], pose.shape[0])
    if same_shape(canvas, size):
        return []
    return [
        f"pose: its canvas of {canvas[0]} x {canvas[1]} px has another shape than the image of {size[0]} x {size[1]}; "
        "it lies in the middle, as large as it fits"
    ]


def same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes in whole pixels may be of one picture."""
    wide, high = one[0] * other[1], one[1] * other[0]
    return abs(wide - high) <= max(SAME_SHAPE * max(wide, high), *one, *other)


def _recipe(filled: GenerateRequest, strength: float | None) -> Recipe:
    return Recipe(
        model=filled.model or "",
        method=filled.method or "",
        size=(filled.width or 0, filled.height or 0),
        num_inference_steps=filled.num_inference_steps or 0,
        guidance_scale=filled.guidance_scale or 0.0,
        pose_guidance_scale=filled.pose_guidance_scale or 0.0,
        guidance_rescale=filled.guidance_rescale,
        scheduler=filled.scheduler,
        clip_skip=filled.clip_skip,
        strength=strength,
    )


def find_model(models: Mapping[str, ServedModel], name: str | None, method: str | None = None) -> Model:
    """That of this name, the first where none is named. StudioError (404) for a name that is not there."""
    name = name or next(iter(models))
    if name not in models:
        raise not_found(f"model {name[:200]!r} (of {', '.join(models)})")
    return models[name].by(method)


def check_count(images: int, limits: Limits, field: str = "n") -> None:
    """StudioError for more images than this server takes at once. field: what the client asks for them by."""
    if images > limits.most_images:
        most = limits.most_images
        raise StudioError(f"{field}: {images} is more than this server takes, {most} at most; ask for fewer at a time")


def _check_limits(request: GenerateRequest, limits: Limits) -> None:
    for name, value, most in (
        ("n", request.n, limits.count),
        ("num_inference_steps", request.num_inference_steps or 0, limits.steps),
        ("prompt", len(request.prompt), limits.prompt),
        ("negative_prompt", len(request.negative_prompt), limits.prompt),
    ):
        if value > most:
            letters = " letters" if "prompt" in name else ""
            raise StudioError(f"{name}: {value}{letters} is more than this server takes, {most} at most")
    if not request.prompt.strip():
        raise StudioError("prompt: is empty; say what the image shows, for example 'photo, a woman running'")
    if request.scheduler and request.scheduler not in SAMPLERS:
        raise StudioError(f"scheduler: {request.scheduler!r} is not known; choose one of {', '.join(SAMPLERS)}")
    if request.image is None and (request.mask or request.strength is not None):
        raise StudioError("mask and strength belong to an image; send `image` too")
    if request.pose is not None and request.pose_image is not None:
        raise StudioError("pose and pose_image are both given; send one of them")


def _pose(request: GenerateRequest, limits: Limits) -> People | Pixels | None:
    if request.pose_image is not None:
        data = images.from_base64(request.pose_image, "pose_image")
        return images.rgb_image(data, "pose_image", limits.image_pixels)
    if request.pose is None:
        return None
    canvas = request.canvas
    if canvas is None and request.width and request.height:
        canvas = (request.width, request.height)
    return one_pose(request.pose, canvas, limits, "pose", f"{IN_THE_POSE}, {OR_CANVAS}.")


def one_pose(
    value: Any, canvas: tuple[int, int] | None, limits: Limits, field: str, canvas_remedy: str = f"{IN_THE_POSE}."
) -> People:
    """The one pose that JSON holds, on its canvas. People without joints are left out. StudioError, PoseError."""
    try:
        poses, _ = read_pose_bytes(dump(value), canvas, canvas_remedy)
    except PoseError as error:
        raise error.at(None, field) from None
    if len(poses) != 1:
        raise StudioError(f"{field}: holds {len(poses)} poses, one is needed; send the one that is wanted")
    people = next(iter(poses.values())).with_joints()
    if not people.n:
        raise StudioError(f"{field}: nobody in it has a joint; leave it out for an image without a pose")
    if people.n > limits.people:
        raise StudioError(f"{field}: {people.n} people are more than this server draws, {limits.people} at most")
    return people


def _mask(
    request: GenerateRequest,
    image: Pixels | None,
    pose: People | Pixels | None,
    limits: Limits,
    detect: Callable[[Pixels], People],
) -> tuple[Pixels | None, People | None]:
    """The mask, and the people that the estimator saw for it."""
    if request.mask is None or image is None:
        return None, None
    if request.mask != "pose":
        mask = images.mask_image(images.from_base64(request.mask, "mask"), "mask", limits.image_pixels)
        check_mask(image, mask)
        return mask, None
    if not isinstance(pose, People):
        raise StudioError("mask: 'pose' needs a pose with joints; send `pose`, or an image as the mask")
    size = (image.shape[1], image.shape[0])
    if request.image_pose is not None:
        before, seen = one_pose(request.image_pose, size, limits, "image_pose"), None
        if not same_shape(before.canvas, size):
            raise StudioError(
                f"image_pose: its canvas is {before.canvas[0]} x {before.canvas[1]} px and the image {size[0]} x "
                f"{size[1]}, another shape; send the pose that is in this image"
            )
    else:
        before = seen = detect(image)
        if not np.any(before.labelled):
            raise StudioError("mask: nobody was found in the image; send `image_pose`, or an image as the mask")
    return repose_mask(before.fit(*size), pose.fit(*size), size), seen
