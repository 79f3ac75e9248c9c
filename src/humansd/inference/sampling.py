"""How images are drawn, as a person or a file says it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from humansd.core.numbers import real, whole
from humansd.pipelines.guidance import Window
from humansd.pipelines.scheduler_names import SCHEDULERS

if TYPE_CHECKING:  # seconds, which a mistyped command need not wait for
    from humansd.pipelines.humansd import HumanSDPipeline

MOST_STEPS = 1000  # of the noise schedule
# Options that every record has; see `SamplingConfig.record`.
RECORDED = frozenset(
    {"num_inference_steps", "guidance_scale", "pose_guidance_scale", "negative_prompt", "size", "scheduler"}
    | {"guidance_start", "guidance_end", "guidance_rescale", "clip_skip"}
)


@dataclass(frozen=True)
class SamplingConfig:
    """How images are drawn; see `HumanSDPipeline.prepare_call`. What is None is the model's own.

    num_inference_steps: denoising steps, 1 to 1000.
    guidance_scale: how strictly the text is followed.
    pose_guidance_scale: how strictly the pose is followed.
    negative_prompt: "" is the plain empty prompt.
    size: (width, height) px.
    scheduler: a name of `pipelines.scheduler_names.SCHEDULERS`.
    guidance_start, guidance_end: the share of the steps, 0..1, that are guided at all, from one to the other.
    guidance_rescale: 0..1, against images that are too bright.
    clip_skip: so many of the text encoder's last layers are left out.

    Raises:
        ValueError: a value out of its range.
    """

    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    pose_guidance_scale: float | None = None
    negative_prompt: str = ""
    size: tuple[int, int] | None = None
    scheduler: str = ""
    guidance_start: float = 0.0
    guidance_end: float | None = None
    guidance_rescale: float = 0.0
    clip_skip: int | None = None

    def __post_init__(self) -> None:
        if self.num_inference_steps is not None:
            whole("num_inference_steps", self.num_inference_steps, most=MOST_STEPS)
        for name in ("guidance_scale", "pose_guidance_scale"):
            if getattr(self, name) is not None:
                real(name, getattr(self, name))
        real("guidance_rescale", self.guidance_rescale, 0, 1)
        if self.scheduler and self.scheduler not in SCHEDULERS:
            raise ValueError(f"scheduler is {self.scheduler!r}; choose one of {', '.join(SCHEDULERS)}")
        Window("guidance", self.guidance_start, 1.0 if self.guidance_end is None else self.guidance_end)

    def record(self) -> dict[str, Any]:
        """What a run, an image or a table says of it, by which it is known again: of an option that came after
        `RECORDED` only what is not its default, so that older records stay those of the same drawing."""
        usual = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in asdict(self).items() if name in RECORDED or value != usual[name]}

    def changed(self) -> list[str]:
        """The names of what is not as by default."""
        return [field.name for field in fields(self) if getattr(self, field.name) != field.default]

    def resolved(self, pipeline: HumanSDPipeline) -> SamplingConfig:
        """The same with the values of `pipeline` where this one names none."""
        own = pipeline.guidance
        steps = pipeline.default_steps if self.num_inference_steps is None else self.num_inference_steps
        end = own.end if self.guidance_end is None else self.guidance_end
        size = self.size or pipeline.default_size
        here = replace(self, num_inference_steps=steps, size=size, guidance_end=end)
        return here.with_guidance(own.text, own.pose)

    def with_guidance(self, guidance: float, pose_guidance_scale: float) -> SamplingConfig:
        """The same with these where it names none."""
        text = guidance if self.guidance_scale is None else self.guidance_scale
        pose = pose_guidance_scale if self.pose_guidance_scale is None else self.pose_guidance_scale
        return replace(self, guidance_scale=text, pose_guidance_scale=pose)

    def options(self, pipeline: HumanSDPipeline) -> dict[str, Any]:
        """The keyword arguments of a pipeline's call."""
        from humansd.pipelines.schedulers import make_scheduler

        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "size"}
        given["scheduler"] = make_scheduler(self.scheduler, pipeline.scheduler) if self.scheduler else None
        return given if self.size is None else {**given, "width": self.size[0], "height": self.size[1]}


DEFAULT_SAMPLING = SamplingConfig()
