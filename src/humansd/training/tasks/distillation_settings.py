"""What is set when one branch learns to answer for three."""

from __future__ import annotations

from dataclasses import dataclass

from humansd.training.loop_settings import require
from humansd.training.tasks.diffusion_settings import DiffusionSettings


@dataclass(frozen=True)
class DistillationSettings(DiffusionSettings):
    """The UNet of `base_model` answers at one branch as at `guidance_scale` and `pose_guidance_scale` (LoRA)."""

    method: str = "humansd"  # of the base
    text_dropout: float = 0.0  # share of the samples whose caption is the empty text
    rank: int = 16  # of the change of each layer

    def __post_init__(self) -> None:
        super().__post_init__()
        require("rank", self.rank, self.rank >= 1, "1 or more")
