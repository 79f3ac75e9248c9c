"""GLIGEN on key points: each joint is a token that the image attends to through gated layers in the frozen UNet.

Li et al. 2023, "GLIGEN: Open-Set Grounded Text-to-Image Generation", sec. 4; HumanSD names it as concurrent work. The
gated layers are diffusers'; grounding by key points is not in diffusers, so the token network is our own and published
weights do not fit it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
from torch import Tensor, nn

from humansd.methods.drawing import Drawable
from humansd.methods.protocol import Networks
from humansd.methods.slots import by_size
from humansd.pose.people import People
from humansd.pose.render import HUMANSD_STYLE, DrawStyle

PEOPLE, JOINTS = 8, 17
_FREQUENCIES = 8


class KeypointTokens(nn.Module):
    """Where joints are -> grounding tokens (n, people x joints, width).

    A token is made of the place (Fourier features), the joint and the person; an absent joint is a learnt token
    (GLIGEN, Eq. 5, with key points in the place of boxes).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.joints = nn.Parameter(0.02 * torch.randn(JOINTS, width))
        self.people = nn.Parameter(0.02 * torch.randn(PEOPLE, width))
        self.absent = nn.Parameter(torch.zeros(4 * _FREQUENCIES))
        self.mlp = nn.Sequential(
            nn.Linear(width + 4 * _FREQUENCIES, 512), nn.SiLU(), nn.Linear(512, 512), nn.SiLU(), nn.Linear(512, width)
        )

    def forward(self, keypoints: Tensor) -> Tensor:
        """(n, people, joints, 3), x and y in 0..1 and whether the joint is there."""
        octaves = 2.0 ** torch.arange(_FREQUENCIES, device=keypoints.device, dtype=torch.float32)
        angles = (keypoints[..., :2, None].float() * (math.pi * octaves)).flatten(-2)
        place = torch.cat([angles.sin(), angles.cos()], dim=-1)
        there = keypoints[..., 2:].float()
        place = place * there + self.absent.float() * (1 - there)
        who = (self.people[:, None] + self.joints)[None].expand(len(keypoints), -1, -1, -1)
        dtype = self.joints.dtype
        tokens: Tensor = self.mlp(torch.cat([who.to(dtype), place.to(dtype)], dim=-1))
        return tokens.flatten(1, 2)


class KeypointUNet(UNet2DConditionModel):
    """A UNet with gated attention whose grounding tokens are key points."""

    def _set_pos_net_if_use_gligen(self, attention_type: str, cross_attention_dim: int | tuple[int, ...]) -> None:
        wide = cross_attention_dim if isinstance(cross_attention_dim, int) else cross_attention_dim[0]
        self.position_net = KeypointTokens(wide)


class Gligen:
    """Frozen base; the gates are zero at step 0, which is the base then."""

    name = "gligen"
    draw_style = HUMANSD_STYLE
    network: type[ModelMixin] | None = None
    unet_class = KeypointUNet
    reads_pose = True
    latent_drawing = False

    def unet_channels(self, latent_channels: int) -> int:
        return latent_channels

    def build(self, unet: UNet2DConditionModel, vae: AutoencoderKL) -> Networks:
        if isinstance(unet, KeypointUNet):
            return Networks(unet, vae)
        config = {name: value for name, value in unet.config.items() if not name.startswith("_")}
        gated = KeypointUNet.from_config({**config, "attention_type": "gated"})
        if unet.device.type != "meta":
            gated.load_state_dict(unet.state_dict(), strict=False)
        gated = gated if gated.dtype == unet.dtype else gated.to(unet.dtype)
        return Networks(gated.train(unet.training), vae)

    def check(self, networks: Networks) -> None:
        """Nothing: it has no network of its own."""

    def learns(self, networks: Networks) -> nn.Module:
        """The gated layers and the token network."""
        unet = networks.unet
        gates = [one.fuser for one in unet.modules() if getattr(one, "fuser", None) is not None]
        return nn.ModuleList([unet.position_net, *gates])

    def condition(self, poses: Sequence[Drawable], size: tuple[int, int], style: DrawStyle) -> Tensor:
        """Key points (n, 8, 17, 3): x and y in 0..1 and whether the joint is there; the largest people first."""
        return torch.from_numpy(np.stack([_keypoints(pose, size) for pose in poses]))

    def encode(self, networks: Networks, condition: Tensor) -> tuple[Tensor, ...]:
        return (condition,)

    def dropped(self, networks: Networks, size: tuple[int, int]) -> None:
        return None

    def unet_inputs(
        self, networks: Networks, noisy: Tensor, timestep: Any, text: Tensor, pose: tuple[Tensor, ...]
    ) -> dict[str, Any]:
        return {
            "sample": noisy,
            "timestep": timestep,
            "encoder_hidden_states": text,
            "cross_attention_kwargs": {"gligen": {"keypoints": pose[0]}},
        }


def _keypoints(pose: Drawable, size: tuple[int, int]) -> np.ndarray:
    known = np.zeros((PEOPLE, JOINTS, 3), np.float32)
    if pose is None:
        return known
    if not isinstance(pose, People):
        raise ValueError("method gligen reads key points, and a drawn skeleton has none; give a pose file")
    people = by_size(pose.fit(*size))
    for slot in range(min(people.n, PEOPLE)):
        seen = people.labelled[slot, :JOINTS]
        known[slot, seen, :2] = people.xy[slot, :JOINTS][seen] / np.array(size)
        known[slot, seen, 2] = 1
    return known
