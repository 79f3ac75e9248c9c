"""A small decoder of a VAE's latents: of few-step generation, decoding is what takes the time."""

from __future__ import annotations

from typing import cast

from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderTiny
from torch import Tensor

FOLDER = "tiny_decoder"  # of a model's folder


class TinyDecoder(ModelMixin, ConfigMixin):
    """The decoder of diffusers' `AutoencoderTiny` (TAESD's architecture) by itself.

    Counted for 256 px at the default size: 7.1 GFLOP, where the pocket VAE's own decoder takes 26.3 and a UNet call
    3.5.

    Args:
        latent_channels: of the VAE. width: channels of every layer.
        blocks: residual blocks at each side, from the latents' to the image's; each side is twice the one before, so
            four of them are for a VAE of factor 8.
    """

    @register_to_config
    def __init__(self, latent_channels: int = 8, width: int = 32, blocks: tuple[int, ...] = (4, 3, 1, 1)) -> None:
        super().__init__()
        widths = (width,) * len(blocks)
        self.decoder = DecoderTiny(latent_channels, 3, tuple(blocks), widths, 2, "relu", "nearest")

    def forward(self, latents: Tensor) -> Tensor:
        """Scaled latents (n, c, h, w), as a UNet makes them -> images (n, 3, H, W), about [-1, 1]."""
        return cast(Tensor, self.decoder(latents))

    @property
    def scale_factor(self) -> int:
        """Px of a side of the image for each of the latents."""
        return int(2 ** (len(self.config.blocks) - 1))
