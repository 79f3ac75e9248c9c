"""What is set when a small decoder of a finished VAE learns."""

from __future__ import annotations

from dataclasses import dataclass

from humansd.training.loop_settings import require
from humansd.training.tasks.autoencoder_settings import AutoencoderSettings


@dataclass(frozen=True)
class TinyDecoderSettings(AutoencoderSettings):
    """A small decoder of the latents of the VAE `init`, which stays as it is; the errors that count are the VAE's."""

    width: int = 32  # channels of every layer
    blocks: str = "4 3 1 1"  # residual blocks at each side, from the latents' to the image's

    def needed(self) -> dict[str, str]:
        """See `LoopSettings.needed`."""
        return {**super().needed(), "init": "the folder of the VAE whose latents are decoded"}

    def __post_init__(self) -> None:
        super().__post_init__()
        require("width", self.width, 4 <= self.width <= 512, "from 4 to 512")
        numbers = self.blocks.split()
        fine = 2 <= len(numbers) <= 8 and all(one.isdecimal() and 1 <= int(one) <= 32 for one in numbers)
        require("blocks", self.blocks, fine, "2 to 8 numbers from 1 to 32, like 4 3 1 1")
        require("equivariance", self.equivariance, self.equivariance == 0, "0: the latents do not learn")
