"""The one place where the studio touches `inference`, `pipelines` and `pose`: models, estimators, pose files."""

from __future__ import annotations

import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from humansd import __version__
from humansd.inference import demo
from humansd.inference.image_info import image_info
from humansd.inference.pretrained import load_pipeline
from humansd.models.codec import decode_latents, vae_scale_factor
from humansd.models.estimators import PHOTO_ESTIMATOR, load_estimator
from humansd.pipelines.checks import check_size
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.image_to_image import HumanSDImg2ImgPipeline, HumanSDInpaintPipeline, output_size
from humansd.pipelines.scheduler_names import SCHEDULERS
from humansd.pipelines.schedulers import make_scheduler
from humansd.pose.errors import PoseError
from humansd.pose.formats import FORMATS, read_poses, write_poses
from humansd.pose.people import People
from humansd.pose.render import looks_like_drawn_skeleton

Pixels = NDArray[np.uint8]
SAMPLERS = tuple(SCHEDULERS)
POSE_FORMATS = FORMATS
DEFAULT_ESTIMATOR = PHOTO_ESTIMATOR
DRAWN_ESTIMATOR = "higherhrnet"  # for images that a model drew
HELD_OUT_ESTIMATOR = "centernet"


@dataclass(frozen=True)
class Recipe:
    """What images of one batch share. size: (width, height) px. strength: for images that begin with one."""

    model: str
    size: tuple[int, int]
    num_inference_steps: int
    guidance_scale: float
    pose_guidance_scale: float
    guidance_rescale: float = 0.0
    scheduler: str = ""
    clip_skip: int | None = None
    strength: float | None = None


@dataclass(frozen=True, eq=False)
class ImageTask:
    """One image to generate. pose: People, a drawn skeleton uint8 (H, W, 3), or None. image, mask: to begin with."""

    recipe: Recipe
    prompt: str
    negative_prompt: str
    seed: int
    pose: People | Pixels | None = None
    image: Pixels | None = None
    mask: Pixels | None = None

    @property
    def batch_key(self) -> tuple[Any, ...]:
        """Equal for tasks that one call of the pipeline can do together."""
        kind = "none" if self.pose is None else "people" if isinstance(self.pose, People) else "skeleton"
        return (self.recipe, kind, None if self.image is None else self.image.shape, self.mask is not None)


# (number of the step, from 1; images in [0, 1] as they look now, made when called) -> whether to go on
OnStep = Callable[[int, Callable[[], list[Image.Image]]], bool]


class LoadedModel:
    """A model that is ready. To be used by one thread."""

    def __init__(self, name: str, pipeline: HumanSDPipeline) -> None:
        self.name, self.pipeline = name, pipeline
        pipeline.set_progress_bar_config(disable=True)

    @property
    def method(self) -> str:
        """How the model is conditioned."""
        return str(self.pipeline.config.get("method") or "humansd")

    @property
    def defaults(self) -> dict[str, Any]:
        """What the model draws with where a request does not say."""
        own, size = self.pipeline.guidance, self.pipeline.default_size
        return {
            "width": size[0],
            "height": size[1],
            "num_inference_steps": self.pipeline.default_steps,
            "guidance_scale": own.text,
            "pose_guidance_scale": own.pose,
        }

    @property
    def size_step(self) -> int:
        """Widths and heights are multiples of it, px."""
        return int(vae_scale_factor(self.pipeline.vae))

    def size(self, width: int | None, height: int | None, image: Pixels | None) -> tuple[int, int]:
        """(width, height) px of a result; ValueError where the model cannot make it."""
        if image is not None:
            return output_size(self.pipeline, image, width, height)
        return check_size(self.pipeline, width, height)

    def draw(self, tasks: Sequence[ImageTask], on_step: OnStep) -> list[Image.Image]:
        """One image per task, from the task's own seed, so that the batch does not matter. All have one `batch_key`."""
        first, recipe = tasks[0], tasks[0].recipe
        more: dict[str, Any] = {}
        pipeline = self.pipeline
        if first.image is not None:
            more = {"image": [task.image for task in tasks], "strength": recipe.strength}
            if first.mask is not None:
                more["mask_image"] = [task.mask for task in tasks]
            pipeline = pipeline.sibling(HumanSDImg2ImgPipeline if first.mask is None else HumanSDInpaintPipeline)
            pipeline.set_progress_bar_config(disable=True)
        preview = _Preview(self.pipeline)

        def callback(running: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            preview.seen(float(timestep), tensors["latents"])
            if not on_step(step + 1, preview.images):
                running._interrupt = True
            return {}

        output: Any = pipeline(
            [task.prompt for task in tasks],
            [task.pose for task in tasks],
            pose_kind="skeleton" if isinstance(first.pose, np.ndarray) else "people",
            negative_prompt=[task.negative_prompt for task in tasks],
            width=recipe.size[0],
            height=recipe.size[1],
            num_inference_steps=recipe.num_inference_steps,
            guidance_scale=recipe.guidance_scale,
            pose_guidance_scale=recipe.pose_guidance_scale,
            guidance_rescale=recipe.guidance_rescale,
            clip_skip=recipe.clip_skip,
            scheduler=make_scheduler(recipe.scheduler, pipeline.scheduler) if recipe.scheduler else None,
            generator=[torch.Generator().manual_seed(task.seed) for task in tasks],
            callback_on_step_end=callback,
            **more,
        )
        return list(output.images)

    def info(self, task: ImageTask) -> dict[str, Any]:
        """The record that goes into the image; key points in pixels of it."""
        recipe = task.recipe
        people = task.pose.fit(*recipe.size) if isinstance(task.pose, People) else None
        settings = {
            "humansd": __version__,
            "model": self.name,
            "num_inference_steps": recipe.num_inference_steps,
            "guidance_scale": recipe.guidance_scale,
            "pose_guidance_scale": recipe.pose_guidance_scale,
            "guidance_rescale": recipe.guidance_rescale,
            "scheduler": recipe.scheduler,
            "clip_skip": recipe.clip_skip,
            "size": list(recipe.size),
        }
        if task.image is not None:
            settings |= {"strength": recipe.strength, "mask": task.mask is not None}
        return image_info(
            task.prompt, negative_prompt=task.negative_prompt, seed=task.seed, people=people, settings=settings
        )


class _Preview:
    """What the images will be, seen from two steps: x_t = sqrt(a) x_0 + sqrt(1 - a) e, with two known a and x_t.

    Exact for DDIM without noise, one step late; for schedulers of other kinds the latents themselves are shown.
    """

    def __init__(self, pipeline: HumanSDPipeline) -> None:
        self._pipeline = pipeline
        self._alphas = getattr(pipeline.scheduler, "alphas_cumprod", None)
        self._points: deque[tuple[torch.Tensor, float]] = deque(maxlen=2)
        self._now: torch.Tensor | None = None

    def seen(self, timestep: float, latents: torch.Tensor) -> None:
        """After a step at `timestep`. The latents are those of the next timestep, which only the next call names."""
        if self._now is not None:
            self._points.append((self._now, timestep))
        self._now = latents

    def images(self) -> list[Image.Image]:
        """As far as they can be seen now."""
        with torch.no_grad():
            made = decode_latents(self._pipeline.vae, self._clean()).float()
        pixels = ((made.clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1).cpu().numpy()
        return [Image.fromarray(one) for one in pixels]

    def _clean(self) -> torch.Tensor:
        assert self._now is not None
        if len(self._points) < 2 or self._alphas is None:
            return self._now
        (x1, t1), (x2, t2) = self._points
        signal1, noise1 = self._level(t1)
        signal2, noise2 = self._level(t2)
        scale = noise2 * signal1 - noise1 * signal2
        return self._now if abs(scale) < 1e-6 else (noise2 * x1 - noise1 * x2) / scale

    def _level(self, timestep: float) -> tuple[float, float]:
        assert self._alphas is not None
        alpha = float(self._alphas[min(int(timestep), len(self._alphas) - 1)])
        return alpha**0.5, (1 - alpha) ** 0.5


def load_model(name: str, source: str, device: str, dtype: str) -> LoadedModel:
    """Errors as of `load_pipeline`."""
    return LoadedModel(name, load_pipeline(source, device, dtype=dtype))


# -- poses --------------------------------------------------------------------------------------------------


def _suffix(data: bytes) -> str:
    """The ending of a pose file's name by how its bytes begin: labels are numbers, CVAT's annotations are XML."""
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if data.startswith(b"PK"):
        return ".npz"
    return ".xml" if start == b"<" else ".txt" if start.isdigit() else ".json"


def read_pose_bytes(data: bytes, canvas: tuple[int, int] | None = None) -> tuple[dict[str, People], list[str]]:
    """Name -> People of a pose file's bytes, and what the reader notes. PoseError without any file's name."""
    suffix = _suffix(data)
    with tempfile.TemporaryDirectory(prefix="humansd-") as folder, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        file = Path(folder) / f"pose{suffix}"
        file.write_bytes(data)
        try:
            poses = read_poses(file, canvas=canvas)
        except PoseError as error:
            raise PoseError(error.problem, field=error.field, remedy=error.remedy) from None
    notes = [str(one.message).replace(f"{file}: ", "").replace(str(file), "the file") for one in caught]
    return poses, list(dict.fromkeys(notes))


def write_pose_bytes(poses: dict[str, People], format: str) -> bytes:
    """A pose file's bytes; PoseError where the format cannot hold the skeleton, or more than one pose."""
    with tempfile.TemporaryDirectory(prefix="humansd-") as folder:
        file = Path(folder) / ("pose.npz" if format == "npz" else "pose.json")
        try:
            write_poses(file, poses, format)
        except PoseError as error:
            raise PoseError(error.problem, field=error.field, remedy=error.remedy) from None
        return file.read_bytes()


class Estimator:
    """What finds people in images; loaded when first asked. To be used by one thread."""

    def __init__(self, name: str = "", source: str = "", device: str = "cpu") -> None:
        self.name = name or DEFAULT_ESTIMATOR
        self._source, self._device = source, device
        self._loaded: Any = None

    def detect(self, image: Pixels) -> People:
        """The people of an image, surest first."""
        if self._loaded is None:
            self._loaded = load_estimator(self.name, self._source, self._device)
        found: People = self._loaded.detect([image])[0]
        return found


def is_drawn_skeleton(image: Pixels) -> bool:
    """Whether an image is a drawn skeleton rather than a photograph."""
    return bool(looks_like_drawn_skeleton(image))


def example_poses() -> dict[str, People]:
    """Name -> People of the poses that ship."""
    return {
        name: people
        for file in sorted(demo.example_poses().glob("*.json"))
        for name, people in read_poses(file).items()
    }
