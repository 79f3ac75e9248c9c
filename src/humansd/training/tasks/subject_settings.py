"""The settings of teaching a Stable Diffusion one person (DreamBooth, Ruiz et al. 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from humansd.training.tasks.diffusion_settings import DiffusionSettings


@dataclass(frozen=True)
class SubjectSettings(DiffusionSettings):
    """A low-rank change of the UNet of `base_model` learns who is in the images of `subject`; `data` are the images
    that keep it from forgetting everybody else."""

    subject: str = ""  # folder of shards or of an image cache: a few images of one person
    subject_prompt: str = ""  # of all of them, with a rare word for the person; empty: their own captions
    prior_weight: float = 1.0  # of the loss on `data`, the prior preservation (Eq. 2); 0: none
    rank: int = 8  # of the change of each attention layer

    def needed(self) -> dict[str, str]:
        """See `LoopSettings.needed`."""
        return {**super().needed(), "subject": "a folder of shards of one person"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.aspect_buckets:
            raise ValueError(
                f"aspect_buckets = {self.aspect_buckets:g}: a subject's images are cut to squares; leave it out"
            )
        if self.rank < 1:
            raise ValueError(f"rank = {self.rank}: must be 1 or more")
        if not 0 <= self.prior_weight < math.inf:
            raise ValueError(f"prior_weight = {self.prior_weight}: must be 0 or more")
        if self.method != "sd":
            raise ValueError(f"method = {self.method!r}: a subject is learnt without poses; leave it out")
