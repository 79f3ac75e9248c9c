"""What is drawn and by whom, in plain values: nothing here needs a network, so that the studio answers at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from humansd import __version__
from humansd.inference.image_info import image_info
from humansd.inference.words import Vocabulary
from humansd.pipelines.scheduler_names import SCHEDULERS
from humansd.pipelines.sizes import check_size, output_size
from humansd.pose.people import People

Pixels = NDArray[np.uint8]
SAMPLERS = tuple(SCHEDULERS)


@dataclass(frozen=True)
class Recipe:
    """What images of one batch share. size: (width, height) px. strength: for images that begin with one."""

    model: str
    method: str
    size: tuple[int, int]
    num_inference_steps: int
    guidance_scale: float
    pose_guidance_scale: float
    guidance_rescale: float = 0.0
    scheduler: str = ""
    clip_skip: int | None = None
    strength: float | None = None

    @property
    def steps_to_draw(self) -> int:
        """Fewer than `num_inference_steps` where the images begin with one."""
        if self.strength is None:
            return self.num_inference_steps
        return max(1, int(self.num_inference_steps * self.strength + 1e-9))


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


@dataclass(frozen=True)
class About:
    """What a model says of itself, in plain values that travel between processes.

    method: how it is conditioned. reads_pose: False where it draws without looking at a pose. default_size, size_step:
    see `pipelines.sizes.Sized`. full_scale: of the size of Stable Diffusion. vocabulary: of a model that knows few
    words. weighs: whether it reads weights of words, as (red:1.3). The rest are the values that it draws with where a
    request does not say.
    """

    name: str
    method: str
    reads_pose: bool
    default_size: tuple[int, int]
    size_step: int
    full_scale: bool
    num_inference_steps: int
    guidance_scale: float
    pose_guidance_scale: float
    vocabulary: Vocabulary | None = None
    weighs: bool = False


class Model(ABC):
    """A model that is ready, here or in another process. Its `draw` is called by one thread."""

    def __init__(self, about: About) -> None:
        self.about = about

    @property
    def defaults(self) -> dict[str, Any]:
        """What the model draws with where a request does not say."""
        about = self.about
        return {
            "width": about.default_size[0],
            "height": about.default_size[1],
            "num_inference_steps": about.num_inference_steps,
            "guidance_scale": about.guidance_scale,
            "pose_guidance_scale": about.pose_guidance_scale,
        }

    def size(self, width: int | None, height: int | None, image: Pixels | None) -> tuple[int, int]:
        """(width, height) px of a result; ValueError where the model cannot make it."""
        if image is not None:
            return output_size(self.about, image, width, height)
        return check_size(self.about, width, height)

    @abstractmethod
    def draw(self, tasks: Sequence[ImageTask], on_step: OnStep) -> list[Image.Image]:
        """One image per task, from the task's own seed, so that the batch does not matter. All have one `batch_key`.

        Raises:
            ValueError: what a client can mend. RuntimeError: anything else.
        """

    def info(self, task: ImageTask) -> dict[str, Any]:
        """The record that goes into the image; key points in pixels of it."""
        recipe = task.recipe
        people = task.pose.fit(*recipe.size) if isinstance(task.pose, People) else None
        settings = {
            "humansd": __version__,
            "model": self.about.name,
            "method": self.about.method,
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
