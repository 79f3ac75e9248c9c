"""Plain Stable Diffusion: the text alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
from torch import Tensor, nn

from humansd.methods.drawing import Drawable
from humansd.methods.protocol import Networks
from humansd.pose.render import HUMANSD_STYLE, DrawStyle


class StableDiffusion:
    """The first row of table 1: what is drawn without a pose."""

    name = "sd"
    draw_style = HUMANSD_STYLE
    network: type[ModelMixin] | None = None
    unet_class = UNet2DConditionModel
    reads_pose = False
    latent_drawing = False

    def unet_channels(self, latent_channels: int) -> int:
        return latent_channels

    def build(self, unet: UNet2DConditionModel, vae: AutoencoderKL) -> Networks:
        return Networks(unet, vae)

    def check(self, networks: Networks) -> None:
        """Nothing: it has no network of its own."""

    def learns(self, networks: Networks) -> nn.Module:
        learns: nn.Module = networks.unet
        return learns

    def condition(self, poses: Sequence[Drawable], size: tuple[int, int], style: DrawStyle) -> Tensor:
        return torch.zeros(len(poses), 0)

    def encode(self, networks: Networks, condition: Tensor) -> tuple[Tensor, ...]:
        return ()

    def dropped(self, networks: Networks, size: tuple[int, int]) -> None:
        return None

    def unet_inputs(
        self, networks: Networks, noisy: Tensor, timestep: Any, text: Tensor, pose: tuple[Tensor, ...]
    ) -> dict[str, Any]:
        return {"sample": noisy, "timestep": timestep, "encoder_hidden_states": text}
