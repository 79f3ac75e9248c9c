"""CenterNet, the held-out estimator: one of another architecture than HigherHRNet, used for evaluation alone.

People as points (Zhou et al. 2019, "Objects as Points", sec. 5.2): a heatmap of people's centres, from each centre the
offsets to its joints, and joint heatmaps that the offsets snap to. An encoder-decoder with group norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from humansd.models.batches import in_batches
from humansd.models.folders import load_network, save_network
from humansd.models.grouping import local_maxima, subpixel
from humansd.models.letterbox import letterbox, people_from_maps
from humansd.pose.people import People
from humansd.pose.skeleton import COCO17

N_JOINTS = len(COCO17)
FARTHEST_SNAP = 2.0  # spreads
LEAST_SCORE = 1e-3  # of a joint that nothing but its offset speaks for
CENTRE_STRIDE, JOINT_STRIDE = 4, 2  # pixels of the image per pixel of the maps


@dataclass(frozen=True)
class CenterNetPoseConfig:
    """Channels at 1/2, 1/4, 1/8 and 1/16 of the image; the side of the square image in px; heads of the attention
    at 1/16, 0 for none."""

    channels: tuple[int, int, int, int] = (24, 48, 80, 128)
    input_px: int = 128
    groups: int = 8
    heads: int = 0


CENTERNET = CenterNetPoseConfig(heads=4)


class CentreMaps(NamedTuple):
    """Logits of centres (n, 1, h/4, w/4) and joints (n, 17, h/2, w/2); offsets (n, 34, h/4, w/4) from a position of the
    centre map to the joints, x and y in turn, in units of a quarter of the image's side."""

    centre: Tensor
    offset: Tensor
    joints: Tensor


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


@dataclass(frozen=True)
class CentreRules:
    """How maps become people. Scores are probabilities.

    joint_score: a peak below this is none. snap: the spread of the bell by which a joint's peaks are weighed around
    where its offset points, as a share of the person's size.
    """

    max_people: int = 30
    centre_score: float = 0.3
    joint_score: float = 0.2
    snap: float = 0.2


RULES = CentreRules()


@dataclass(frozen=True, eq=False)
class CenterNetPoseEstimator:
    """`PoseEstimator` around a `CenterNetPose`.

    flip_test: a second pass over the mirrored image, averaged; twice the time.
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


def mirrored(maps: CentreMaps) -> CentreMaps:
    """The maps of an image from those of its mirror image."""
    order = list(COCO17.flip_order)
    offset = maps.offset.unflatten(1, (N_JOINTS, 2))[:, order].flip(4)
    offset = torch.cat([-offset[:, :, :1], offset[:, :, 1:]], dim=2).flatten(1, 2)
    return CentreMaps(maps.centre.flip(3), offset, maps.joints[:, order].flip(3))


def decode(maps: CentreMaps, rules: CentreRules) -> list[tuple[NDArray, NDArray, NDArray]]:
    """Per image: joints (p, 17, 2) in pixels of the joint maps, joint scores (p, 17), 0 outside the image, and
    person scores (p,), surest first."""
    n, _, h, w = maps.centre.shape
    centre, joints = maps.centre.float().sigmoid(), maps.joints.float().sigmoid()
    alone = torch.where(F.max_pool2d(centre, 3, 1, 1) == centre, centre, centre.new_zeros(()))
    score, index = alone.flatten(1).topk(min(rules.max_people, h * w), dim=1)
    offset = maps.offset.float().flatten(2).gather(2, index[:, None].expand(-1, 2 * N_JOINTS, -1))
    offset = offset.permute(0, 2, 1).reshape(n, -1, N_JOINTS, 2) * (w * CENTRE_STRIDE / 4)
    place = torch.stack([index % w, index // w], dim=-1)[:, :, None].float()
    pointed = ((place + 0.5) * CENTRE_STRIDE + offset) / JOINT_STRIDE - 0.5
    heat = joints.cpu().numpy()
    out = []
    for i in range(n):
        sure = (score[i] >= rules.centre_score).cpu().numpy()
        guess, person = pointed[i].cpu().numpy()[sure], score[i].cpu().numpy()[sure]
        xy, joint = _snapped(guess, heat[i], rules)
        person = person * np.where(joint > 0, 0.5 + 0.5 * joint, 0.5).mean(axis=1)
        order = np.argsort(-person, kind="stable")
        out.append((xy[order], joint[order], person[order]))
    return out


def _snapped(guess: NDArray, heat: NDArray, rules: CentreRules) -> tuple[NDArray, NDArray]:
    """Joints at the peak that is high and near to where the offset points; else there, with the little heat it has."""
    count, k = guess.shape[:2]
    h, w = heat.shape[1:]
    nearest = np.clip(np.rint(guess), 0, (w - 1, h - 1)).astype(int)
    xy = guess.copy()
    score = np.maximum(heat[np.arange(k), nearest[..., 1], nearest[..., 0]], LEAST_SCORE)
    joint, y, x = local_maxima(heat, 1, rules.joint_score)
    if count and len(joint):
        size = np.maximum(np.ptp(guess, axis=1).max(axis=1), 4.0)
        peak, height = np.stack([x, y], axis=1), heat[joint, y, x]
        away = guess[:, joint] - peak
        gap = np.sqrt((away * away).sum(axis=2)) / size[:, None]  # (count, peaks)
        value = height * np.exp(-((gap / rules.snap) ** 2) / 2)
        ends = np.searchsorted(joint, np.arange(k + 1))
        best, near = np.zeros((count, k), int), np.zeros((count, k), bool)
        for j in np.unique(joint):
            best[:, j] = ends[j] + value[:, ends[j] : ends[j + 1]].argmax(axis=1)
            near[:, j] = gap[np.arange(count), best[:, j]] <= FARTHEST_SNAP * rules.snap
        fine = subpixel(heat, peak[best], near.astype(np.float32))
        xy, score = np.where(near[..., None], fine, xy), np.where(near, height[best], score)
    inside = ((xy >= -0.5) & (xy <= (w - 0.5, h - 0.5))).all(axis=2)
    return xy.astype(np.float32), np.where(inside, score, 0).astype(np.float32)


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
