"""CenterNet, the held-out estimator: one of another architecture than HigherHRNet, used for evaluation alone.

People as points (Zhou et al. 2019, "Objects as Points", sec. 5.2): a heatmap of people's centres, from each centre the
offsets to its joints, and joint heatmaps that the offsets snap to. An encoder-decoder with group norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from humansd.models.batches import in_batches
from humansd.models.centernet_codec import JOINT_STRIDE, N_JOINTS, RULES, CentreMaps, CentreRules, decode, mirrored
from humansd.models.folders import load_network, save_network
from humansd.models.letterbox import letterbox, people_from_maps
from humansd.pose.people import People


@dataclass(frozen=True)
class CenterNetPoseConfig:
    """Sizes of the network.

    channels: at 1/2, 1/4, 1/8 and 1/16 of the image. input_px: side of the square image. groups: of the group norms.
    heads: of the attention at 1/16, 0 for none.
    """

    channels: tuple[int, int, int, int] = (24, 48, 80, 128)
    input_px: int = 128
    groups: int = 8
    heads: int = 0


CENTERNET = CenterNetPoseConfig(heads=4)


class CenterNetPose(nn.Module):
    """Images (n, 3, h, w) in [-1, 1], h and w multiples of 16 -> `CentreMaps`."""

    def __init__(self, config: CenterNetPoseConfig) -> None:
        super().__init__()
        self.config = config
        a, b, c, d = config.channels
        groups = config.groups
        self.stem = nn.Conv2d(3, a, 4, 2, 1)
        self.down = nn.ModuleList([_Down(a, b, groups), _Down(b, c, groups), _Down(c, d, groups)])
        self.middle = nn.Sequential(_Residual(d, groups), _Residual(d, groups))
        self.attention = _Attention(d, groups, config.heads) if config.heads else nn.Identity()
        self.up = nn.ModuleList([_Up(d, c, groups), _Up(c, b, groups), _Up(b, a, groups)])
        self.centre = _head(b, 1, groups)
        self.offset = _head(b, 2 * N_JOINTS, groups)
        self.joints = _head(a, N_JOINTS, groups)
        for head in (self.centre, self.joints):  # CenterNet's start: everything unlikely
            bias = head[-1].bias
            assert isinstance(bias, nn.Parameter)
            nn.init.constant_(bias, -2.2)

    def forward(self, images: Tensor) -> CentreMaps:
        skips = [self.stem(images)]
        for down in self.down:
            skips.append(down(skips[-1]))
        x = self.attention(self.middle(skips.pop()))
        levels = []
        for up in self.up:
            x = up(x, skips.pop())
            levels.append(x)
        return CentreMaps(self.centre(levels[1]), self.offset(levels[1]), self.joints(levels[2]))

    def save_pretrained(self, folder: Path) -> None:
        """Writes `config.json` and `model.safetensors`."""
        save_network(self, self.config, folder)

    @classmethod
    def from_pretrained(cls, folder: Path) -> CenterNetPose:
        """The network that `save_pretrained` wrote, in fp32 and for use; raises as `load_network` does."""
        return load_network(cls, CenterNetPoseConfig, folder)


@dataclass(frozen=True, eq=False)
class CenterNetPoseEstimator:
    """`PoseEstimator` around a `CenterNetPose`.

    rules: how maps become people. flip_test: a second pass over the mirrored image, averaged; twice the time.
    batch_size: images at once. name: see `PoseEstimator.name`.
    """

    network: CenterNetPose
    rules: CentreRules = RULES
    flip_test: bool = True
    batch_size: int = 16
    name: str = "centernet"

    @classmethod
    def from_pretrained(cls, folder: Path, device: torch.device | str = "cpu") -> CenterNetPoseEstimator:
        """From a folder of `CenterNetPose.save_pretrained`."""
        return cls(CenterNetPose.from_pretrained(folder).to(device))

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """See `PoseEstimator.networks`."""
        return (self.network,)

    @torch.no_grad()
    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[People]:
        """See `PoseEstimator.detect`."""
        overlap = next(self.network.parameters()).is_cuda
        return in_batches(images, self.batch_size, self._look, self._read, overlap=overlap)

    def _look(self, batch: Sequence[NDArray[np.uint8]]) -> CentreMaps:
        device = next(self.network.parameters()).device
        squares = letterbox(batch, self.network.config.input_px).to(device)
        maps: CentreMaps = self.network(squares)
        if not self.flip_test:
            return maps
        again = mirrored(self.network(squares.flip(3)))
        return CentreMaps(*((one + other) / 2 for one, other in zip(maps, again, strict=True)))

    def _read(self, maps: CentreMaps, batch: Sequence[NDArray[np.uint8]]) -> list[People]:
        side = self.network.config.input_px
        return [
            people_from_maps(xy, joint, person, JOINT_STRIDE, side, (image.shape[1], image.shape[0]))
            for (xy, joint, person), image in zip(decode(maps, self.rules), batch, strict=True)
        ]


class _Residual(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(groups, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, 1, 1),
            nn.GroupNorm(groups, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class _Attention(nn.Module):
    """Every position asks every other; at the start it changes nothing, so that a trained network can be given it."""

    def __init__(self, channels: int, groups: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels)
        self.ask = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        asked = self.ask(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1)).transpose(3, 4)
        found = F.scaled_dot_product_attention(*asked.unbind(1))
        return x + self.out(found.transpose(2, 3).flatten(1, 2).unflatten(2, x.shape[2:]))


class _Down(nn.Sequential):
    def __init__(self, channels: int, out: int, groups: int) -> None:
        super().__init__(_Residual(channels, groups), nn.Conv2d(channels, out, 4, 2, 1))


class _Up(nn.Module):
    def __init__(self, channels: int, out: int, groups: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(channels, out, 1)
        self.block = _Residual(out, groups)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.block(F.interpolate(self.narrow(x), scale_factor=2.0, mode="nearest") + skip)


def _head(channels: int, out: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.GroupNorm(groups, channels),
        nn.SiLU(),
        nn.Conv2d(channels, channels, 3, 1, 1),
        nn.SiLU(),
        nn.Conv2d(channels, out, 1),
    )
