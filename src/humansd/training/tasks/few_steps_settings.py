"""What is set when four UNet calls learn to go where many went."""

from __future__ import annotations

from dataclasses import dataclass

from humansd.training.loop_settings import require
from humansd.training.tasks.distillation_settings import DistillationSettings

START_STATES = ("own", "data")


@dataclass(frozen=True)
class FewStepSettings(DistillationSettings):
    """The UNet of `base_model` draws in `calls` steps what a teacher draws in `calls` times `teacher_steps` (LoRA)."""

    teacher_lora: str = ""  # folder of a one-branch LoRA: the teacher, and the start; "": the UNet's three branches
    calls: int = 4  # UNet calls of an image
    teacher_steps: int = 4  # DDIM steps of the teacher in the place of one call
    start: str = "own"  # own | data; where a call starts from: what the student has drawn so far, or noisy images

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("calls", "teacher_steps"):
            require(name, getattr(self, name), 1 <= getattr(self, name) <= 64, "from 1 to 64")
        require("start", self.start, self.start in START_STATES, " or ".join(START_STATES))
