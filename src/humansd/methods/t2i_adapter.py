"""T2I-Adapter: a small network reads the drawing once, its features are added to the frozen UNet's encoder.

Mou et al. 2023, "T2I-Adapter: Learning Adapters to Dig out More Controllable Ability". The network is
diffusers' own, so that published weights run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from diffusers import AutoencoderKL, ModelMixin, MultiAdapter, T2IAdapter, UNet2DConditionModel
from torch import Tensor, nn

from humansd.methods.drawing import Drawable, drawings
from humansd.methods.fit import check_pairs
from humansd.methods.protocol import Networks
from humansd.models.codec import vae_scale_factor
from humansd.pose.render import OPENPOSE_STYLE, DrawStyle


class Adapter:
    """Dual branch, frozen base; the features do not depend on the step, so they are computed once for an image."""

    name = "t2i-adapter"
    draw_style = OPENPOSE_STYLE
    network: type[ModelMixin] | None = T2IAdapter
    unet_class = UNet2DConditionModel
    reads_pose = True
    latent_drawing = False

    def unet_channels(self, latent_channels: int) -> int:
        return latent_channels

    def build(self, unet: UNet2DConditionModel, vae: AutoencoderKL) -> Networks:
        adapter = T2IAdapter(
            in_channels=3,
            channels=list(unet.config.block_out_channels),
            num_res_blocks=2,
            downscale_factor=vae_scale_factor(vae),
            adapter_type="full_adapter",
        )
        return Networks(unet, vae, adapter.train(unet.training))

    def check(self, networks: Networks) -> None:
        """See `Method.check`: a feature for each of the UNet's resolutions, as wide as that."""
        unet, factor = networks.unet, vae_scale_factor(networks.vae)
        adapters = networks.pose_network.adapters if isinstance(networks.pose_network, MultiAdapter) else None
        for adapter in adapters or [networks.pose_network]:
            own = adapter.config
            widths = list(own.channels)
            if own.adapter_type == "light_adapter":  # its last block, as wide as the one before, is in no list
                widths.append(widths[-1])
            check_pairs(
                "T2I-Adapter",
                {
                    "adapter_type": (own.adapter_type, own.adapter_type.removesuffix("_xl")),
                    "channels": (widths, unet.config.block_out_channels),
                    "in_channels": (own.in_channels, 3),
                    "downscale_factor": (own.downscale_factor, factor),
                },
            )

    def learns(self, networks: Networks) -> nn.Module:
        assert networks.pose_network is not None
        return networks.pose_network

    def condition(self, poses: Sequence[Drawable], size: tuple[int, int], style: DrawStyle) -> Tensor:
        """The drawings, (n, 3, height, width) in [0, 1], as diffusers' T2I-Adapter is shown them."""
        return (drawings(poses, style, size) + 1) / 2

    def encode(self, networks: Networks, condition: Tensor) -> tuple[Tensor, ...]:
        """A feature map (n, c, h, w) of each of the UNet's resolutions."""
        assert networks.pose_network is not None
        own = next(networks.pose_network.parameters())
        return tuple(networks.pose_network(condition.to(own.dtype)))

    def dropped(self, networks: Networks, size: tuple[int, int]) -> None:
        return None

    def unet_inputs(
        self, networks: Networks, noisy: Tensor, timestep: Any, text: Tensor, pose: tuple[Tensor, ...]
    ) -> dict[str, Any]:
        return {
            "sample": noisy,
            "timestep": timestep,
            "encoder_hidden_states": text,
            "down_intrablock_additional_residuals": _where_they_are_added(networks.unet, pose),
        }


def _where_they_are_added(unet: UNet2DConditionModel, features: Sequence[Tensor]) -> list[Tensor]:
    """diffusers adds the feature of a block without attention behind its downsampler, half as large."""
    blocks = list(unet.config.down_block_types)
    last = len(blocks) - 1
    plain = [kind == "DownBlock2D" and number < last for number, kind in enumerate(blocks)]
    return [F.avg_pool2d(one, 2) if half else one.clone() for one, half in zip(features, plain, strict=True)]
