"""How images are drawn, as a person or a file says it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from humansd.pipelines.checks import real, whole
from humansd.pipelines.guidance import Window
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.schedulers import SCHEDULERS, make_scheduler

MOST_STEPS = 1000  # of the noise schedule


@dataclass(frozen=True)
class Sampling:
    """How images are drawn; see `HumanSDPipeline.prepare_call`. What is None is the model's own.

    steps: denoising steps. guidance, pose_guidance_scale: how strictly text and pose are followed. negative: "" is the
    plain empty prompt. size: (width, height) px. scheduler: a name of `pipelines.schedulers.SCHEDULERS`.
    guidance_start, guidance_end: the share of the steps that are guided at all. rescale: 0..1, against images that
    are too bright.
    clip_skip: so many of the text encoder's last layers are left out.

    Raises:
        ValueError: a value out of its range.
    """

    steps: int | None = None
    guidance: float | None = None
    pose_guidance_scale: float | None = None
    negative: str = ""
    size: tuple[int, int] | None = None
    scheduler: str = ""
    guidance_start: float = 0.0
    guidance_end: float = 1.0
    rescale: float = 0.0
    clip_skip: int | None = None

    def __post_init__(self) -> None:
        if self.steps is not None:
            whole("steps", self.steps, most=MOST_STEPS)
        for name in ("guidance", "pose_guidance_scale"):
            if getattr(self, name) is not None:
                real(name, getattr(self, name))
        real("rescale", self.rescale, 0, 1)
        if self.scheduler and self.scheduler not in SCHEDULERS:
            raise ValueError(f"scheduler is {self.scheduler!r}; choose one of {', '.join(SCHEDULERS)}")
        Window("guidance", self.guidance_start, self.guidance_end)

    def settled(self, pipeline: HumanSDPipeline) -> Sampling:
        """The same with the values of `pipeline` where this one names none."""
        own = pipeline.guidance
        steps = pipeline.default_steps if self.steps is None else self.steps
        return replace(self, steps=steps, size=self.size or pipeline.default_size).filled(own.text, own.pose)

    def filled(self, guidance: float, pose_guidance_scale: float) -> Sampling:
        """The same with these where it names none."""
        text = guidance if self.guidance is None else self.guidance
        pose = pose_guidance_scale if self.pose_guidance_scale is None else self.pose_guidance_scale
        return replace(self, guidance=text, pose_guidance_scale=pose)

    def options(self, pipeline: HumanSDPipeline) -> dict[str, Any]:
        """The keyword arguments of a pipeline's call."""
        size = {} if self.size is None else {"width": self.size[0], "height": self.size[1]}
        return {
            "negative_prompt": self.negative,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "pose_guidance_scale": self.pose_guidance_scale,
            "guidance_start": self.guidance_start,
            "guidance_end": self.guidance_end,
            "guidance_rescale": self.rescale,
            "clip_skip": self.clip_skip,
            "scheduler": make_scheduler(self.scheduler, pipeline.scheduler) if self.scheduler else None,
            **size,
        }


DEFAULT_SAMPLING = Sampling()
