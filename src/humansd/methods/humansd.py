"""HumanSD: the drawn skeleton goes through the VAE and stands beside the noisy latent (HumanSD, sec. 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
from torch import Tensor, nn

from humansd.methods.drawing import Drawable, drawings
from humansd.methods.protocol import Networks
from humansd.models.codec import encode_images, vae_scale_factor
from humansd.models.widen import widen_conv_in
from humansd.pose.render import HUMANSD_STYLE, DrawStyle


class HumanSD:
    """Native guidance: the UNet's input is twice as wide, the new weights start at zero, and all of it learns."""

    name = "humansd"
    draw_style = HUMANSD_STYLE
    network: type[ModelMixin] | None = None
    unet_class = UNet2DConditionModel
    reads_pose = True
    latent_drawing = True

    def unet_channels(self, latent_channels: int) -> int:
        return 2 * latent_channels

    def build(self, unet: UNet2DConditionModel, vae: AutoencoderKL) -> Networks:
        channels = vae.config.latent_channels
        return Networks(widen_conv_in(unet, channels) if unet.config.in_channels == channels else unet, vae)

    def check(self, networks: Networks) -> None:
        """Nothing: it has no network of its own."""

    def learns(self, networks: Networks) -> nn.Module:
        learns: nn.Module = networks.unet
        return learns

    def condition(self, poses: Sequence[Drawable], size: tuple[int, int], style: DrawStyle) -> Tensor:
        return drawings(poses, style, size)

    def encode(self, networks: Networks, condition: Tensor) -> tuple[Tensor, ...]:
        """The scaled posterior mean of the drawings, (n, c, h, w)."""
        return (encode_images(networks.vae, condition),)

    def dropped(self, networks: Networks, size: tuple[int, int]) -> tuple[Tensor, ...]:
        """A latent of zeros, as the trainer here shows it."""
        factor = vae_scale_factor(networks.vae)
        return (torch.zeros(1, networks.vae.config.latent_channels, size[1] // factor, size[0] // factor),)

    def unet_inputs(
        self, networks: Networks, noisy: Tensor, timestep: Any, text: Tensor, pose: tuple[Tensor, ...]
    ) -> dict[str, Any]:
        sample = torch.cat([noisy, pose[0]], dim=1)
        return {"sample": sample, "timestep": timestep, "encoder_hidden_states": text}
