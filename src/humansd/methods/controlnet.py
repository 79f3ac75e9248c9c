"""ControlNet: a copy of the UNet's encoder reads the drawing, its answers are added to the frozen UNet's features.

Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion Models". The network is
diffusers' own, so that published weights run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffusers import AutoencoderKL, ControlNetModel, ModelMixin, UNet2DConditionModel
from torch import Tensor, nn

from humansd.methods.drawing import Drawable, drawings
from humansd.methods.fit import check_pairs
from humansd.methods.protocol import Networks
from humansd.models.codec import vae_scale_factor
from humansd.pose.render import OPENPOSE_STYLE, DrawStyle

_EMBEDDING = (16, 32, 96, 256)  # channels of the drawing's embedding; each but the first halves the size


class ControlNet:
    """Dual branch, frozen base; at step 0 the base, as the copy ends in convolutions of zeros."""

    name = "controlnet"
    draw_style = OPENPOSE_STYLE
    network: type[ModelMixin] | None = ControlNetModel
    unet_class = UNet2DConditionModel
    reads_pose = True
    latent_drawing = False

    def unet_channels(self, latent_channels: int) -> int:
        return latent_channels

    def build(self, unet: UNet2DConditionModel, vae: AutoencoderKL) -> Networks:
        halvings = vae_scale_factor(vae).bit_length() - 1
        copy = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=_EMBEDDING[: halvings + 1])
        return Networks(unet, vae, copy.train(unet.training))

    def check(self, networks: Networks) -> None:
        """See `Method.check`: its features have to be as many, as wide and as large as the UNet's."""
        assert networks.pose_network is not None
        own: Any = networks.pose_network.config
        base, factor = networks.unet.config, vae_scale_factor(networks.vae)
        halves = 2 ** (len(own.conditioning_embedding_out_channels) - 1)
        check_pairs(
            "ControlNet",
            {
                "cross_attention_dim": (own.cross_attention_dim, base.cross_attention_dim),
                "in_channels": (own.in_channels, base.in_channels),
                "block_out_channels": (own.block_out_channels, base.block_out_channels),
                "layers_per_block": (own.layers_per_block, base.layers_per_block),
                "conditioning_channels": (own.conditioning_channels, 3),
                "px of the drawing to a position": (halves, factor),
            },
        )

    def learns(self, networks: Networks) -> nn.Module:
        assert networks.pose_network is not None
        return networks.pose_network

    def condition(self, poses: Sequence[Drawable], size: tuple[int, int], style: DrawStyle) -> Tensor:
        """The drawings, (n, 3, height, width) in [0, 1], as diffusers' ControlNet is shown them."""
        return (drawings(poses, style, size) + 1) / 2

    def encode(self, networks: Networks, condition: Tensor) -> tuple[Tensor, ...]:
        return (condition,)

    def dropped(self, networks: Networks, size: tuple[int, int]) -> None:
        return None

    def unet_inputs(
        self, networks: Networks, noisy: Tensor, timestep: Any, text: Tensor, pose: tuple[Tensor, ...]
    ) -> dict[str, Any]:
        assert networks.pose_network is not None
        down, mid = networks.pose_network(
            noisy, timestep, encoder_hidden_states=text, controlnet_cond=pose[0], return_dict=False
        )
        return {
            "sample": noisy,
            "timestep": timestep,
            "encoder_hidden_states": text,
            "down_block_additional_residuals": down,
            "mid_block_additional_residual": mid,
        }
