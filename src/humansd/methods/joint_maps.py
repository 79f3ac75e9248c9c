"""Joint maps (ours): every joint is a channel of its own at the latent's resolution, and no drawing is encoded.

As in HumanSD the UNet's input grows, the new weights start at zero and all of it learns. What differs is what it is
told: joints are told apart by channel, not by colour, and so are people.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
from torch import Tensor, nn

from humansd.methods.drawing import Drawable
from humansd.methods.protocol import Networks
from humansd.methods.slots import by_size
from humansd.models.widen import widen_conv_in
from humansd.pose.maps import gaussian_heatmaps, person_mask
from humansd.pose.people import People
from humansd.pose.render import HUMANSD_STYLE, DrawStyle

SLOTS, JOINTS = 3, 17
CHANNELS = SLOTS * (JOINTS + 1)  # the joints of a slot, and the mask of its people
FINE = 4  # px of the image to a position of the maps, which are averaged down to the latent's
SIGMA = 1.0  # positions


class JointMaps:
    """The largest person has the first slot, the next one the second; all others share the last, joint by joint the
    most of them."""

    name = "joint-maps"
    draw_style = HUMANSD_STYLE
    network: type[ModelMixin] | None = None
    unet_class = UNet2DConditionModel
    reads_pose = True
    latent_drawing = False

    def unet_channels(self, latent_channels: int) -> int:
        return latent_channels + CHANNELS

    def build(self, unet: UNet2DConditionModel, vae: AutoencoderKL) -> Networks:
        plain = unet.config.in_channels == vae.config.latent_channels
        return Networks(widen_conv_in(unet, CHANNELS) if plain else unet, vae)

    def check(self, networks: Networks) -> None:
        """Nothing: it has no network of its own."""

    def learns(self, networks: Networks) -> nn.Module:
        learns: nn.Module = networks.unet
        return learns

    def condition(self, poses: Sequence[Drawable], size: tuple[int, int], style: DrawStyle) -> Tensor:
        """(n, 54, height / 4, width / 4) in [0, 1]."""
        return torch.from_numpy(np.stack([joint_maps(pose, size) for pose in poses]))

    def encode(self, networks: Networks, condition: Tensor) -> tuple[Tensor, ...]:
        return (condition,)

    def dropped(self, networks: Networks, size: tuple[int, int]) -> None:
        return None

    def unet_inputs(
        self, networks: Networks, noisy: Tensor, timestep: Any, text: Tensor, pose: tuple[Tensor, ...]
    ) -> dict[str, Any]:
        maps = pose[0]
        if maps.shape[2:] != noisy.shape[2:]:
            maps = F.adaptive_avg_pool2d(maps, (noisy.shape[2], noisy.shape[3]))
        sample = torch.cat([noisy, maps.to(noisy.dtype)], dim=1)
        return {"sample": sample, "timestep": timestep, "encoder_hidden_states": text}


def joint_maps(pose: Drawable, size: tuple[int, int]) -> np.ndarray:
    """The maps of one pose, float32 (54, height / 4, width / 4), nothing for a dropped one.

    Raises:
        ValueError: a drawn skeleton, which has no key points.
    """
    small = max(1, size[0] // FINE), max(1, size[1] // FINE)
    maps = np.zeros((SLOTS, JOINTS + 1, small[1], small[0]), np.float32)
    if pose is None:
        return maps.reshape(CHANNELS, small[1], small[0])
    if not isinstance(pose, People):
        raise ValueError("method joint-maps reads key points, and a drawn skeleton has none; give a pose file")
    people = by_size(pose.fit(*small))
    for slot in range(min(SLOTS, people.n)):
        last = people.n if slot == SLOTS - 1 else slot + 1
        own = people.select(list(range(slot, last)))
        maps[slot, :JOINTS] = gaussian_heatmaps(own, small, SIGMA)
        maps[slot, JOINTS] = person_mask(own, small) > 0
    return maps.reshape(CHANNELS, small[1], small[0])
