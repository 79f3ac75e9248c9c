"""What is set when the latent heatmap head learns."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from humansd.training.tasks.diffusion_settings import DiffusionSettings, LatentSettings, TeacherSettings


@dataclass(frozen=True)
class HeadSettings(LatentSettings, TeacherSettings):
    """The latent heatmap head; `base_model` is the HumanSD whose noise differences it learns to read."""

    method: str = "humansd"  # of the base

    # Version 0.1 wrote down all that a UNet's run has; the head read none of these.
    FORMER_FIELDS: ClassVar[frozenset[str]]

    def teacher_wanted_by(self) -> str:
        """See `TeacherSettings.teacher_wanted_by`."""
        return "the latent heatmap head"

    def denoising(self) -> DiffusionSettings:
        """Of the UNet whose errors the head reads."""
        return DiffusionSettings(**{field.name: getattr(self, field.name) for field in fields(LatentSettings)})


HeadSettings.FORMER_FIELDS = frozenset(
    {field.name for field in fields(DiffusionSettings)} - {field.name for field in fields(HeadSettings)}
)
