"""MoveNet MultiPose Lightning (Google 2021) in plain PyTorch: a MobileNetV2, a feature pyramid, and heads in the manner
of CenterNet (Zhou et al. 2019).

The architecture is that of the published graph (`humansd convert movenet` reads its weights), with batch
normalisation already folded into the convolutions, so it is for use and not for training. Images go in with black
borders at the right and bottom, as it learnt them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from humansd.models.folders import load_network, save_network
from humansd.pose.skeleton import COCO17

N_JOINTS = len(COCO17)
STRIDE = 4  # pixels of the image per pixel of the maps
MULTIPLE = 32  # the sides of an image are multiples of it
# MobileNetV2's table: blocks and stride of the first one in each of seven groups.
_GROUPS = ((1, 1), (2, 2), (3, 2), (4, 2), (3, 1), (3, 2), (1, 1))
_TAKEN = (1, 2, 3)  # the groups whose features the pyramid takes, at 1/4, 1/8 and 1/16 of the image
_EXPANSION = 6
_PEAK_WINDOW = 5  # map pixels; of several centers in it the highest counts
_PEAK_TOLERANCE = 1e-6
_REACH = 0.3  # of the maps' shorter side: how far from where the center says a joint may be
_SEEN = 0.127  # joints below it say nothing about whether there is a person


@dataclass(frozen=True)
class MoveNetConfig:
    """Sizes of the network. groups: channels of MobileNetV2's seven groups of blocks; neck: of the pyramid at 1/16,
    1/8 and 1/4 of the image; input_px: of an image's longer side, a multiple of 32."""

    input_px: int = 384
    stem: int = 48
    groups: tuple[int, ...] = (24, 40, 48, 96, 144, 240, 480)
    last: int = 1280
    neck: tuple[int, ...] = (64, 32, 24)
    head: int = 96


class MoveNetMaps(NamedTuple):
    """What the network says of a batch of images (n, 3, H, W): maps (n, c, H/4, W/4), y before x where there are two.

    center: (n, 1), 0..1, high where a person is. box_size: (n, 2) and box_offset (n, 2) of that person, map pixels.
    regressed: (n, 34) from the center to the 17 joints, map pixels. heat: (n, 17), 0..1. offset: (n, 34), from a map
    pixel to the joint in it.
    """

    center: Tensor
    box_size: Tensor
    box_offset: Tensor
    regressed: Tensor
    heat: Tensor
    offset: Tensor


class FoundPeople(NamedTuple):
    """People of one image, surest first. xy: (n, 17, 2) and boxes (n, 4: x0, y0, x1, y1), pixels of the network's
    image; joint_score: (n, 17); person_score: (n,), all in 0..1."""

    xy: Tensor
    joint_score: Tensor
    person_score: Tensor
    boxes: Tensor


class MoveNet(nn.Module):
    """Images (n, 3, H, W), RGB in [-1, 1], H and W multiples of 32 -> `MoveNetMaps`."""

    def __init__(self, config: MoveNetConfig) -> None:
        super().__init__()
        if len(config.groups) != len(_GROUPS) or len(config.neck) != len(_TAKEN):
            raise ValueError(f"a MoveNet has {len(_GROUPS)} groups and a neck of {len(_TAKEN)}; copy the config again")
        self.config = config
        self.stem = _Convolution(3, config.stem, 3, 2)
        self.groups = nn.ModuleList()
        channels = config.stem
        for number, ((count, stride), width) in enumerate(zip(_GROUPS, config.groups, strict=True)):
            blocks = []
            for index in range(count):
                expansion = _EXPANSION if number else 1
                blocks.append(InvertedResidual(channels, width, 1 if index else stride, expansion))
                channels = width
            self.groups.append(nn.Sequential(*blocks))
        self.last = nn.Conv2d(channels, config.last, 1)
        laterals = [config.groups[group] for group in reversed(_TAKEN)]
        self.top = nn.Conv2d(config.last, config.neck[0], 1)
        self.laterals = nn.ModuleList(nn.Conv2d(c, out, 1) for c, out in zip(laterals, config.neck, strict=True))
        outs = (*config.neck[1:], config.neck[-1])
        self.merges = nn.ModuleList(Separable(c, out) for c, out in zip(config.neck, outs, strict=True))
        sizes = {"center": 1, "box_size": 2, "box_offset": 2, "regressed": 34, "heat": N_JOINTS, "offset": 34}
        self.heads = nn.ModuleDict({name: _head(outs[-1], config.head, out) for name, out in sizes.items()})

    def forward(self, images: Tensor) -> MoveNetMaps:
        """See the class."""
        x = F.relu6(self.stem(images), inplace=True)
        taken = []
        for number, group in enumerate(self.groups):
            x = group(x)
            if number in _TAKEN:
                taken.append(x)
        x = self.top(F.relu6(self.last(x), inplace=True))
        for lateral, merge, features in zip(self.laterals, self.merges, reversed(taken), strict=True):
            finer = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = merge(finer + lateral(features))
        maps = {name: head(x) for name, head in self.heads.items()}
        return MoveNetMaps(**{**maps, "center": maps["center"].sigmoid(), "heat": maps["heat"].sigmoid()})

    def save_pretrained(self, folder: Path) -> None:
        """Writes `config.json` and `model.safetensors`, large weights as int8 (`folders.save_network`)."""
        save_network(self, self.config, folder, int8=True)

    @classmethod
    def from_pretrained(cls, folder: Path) -> MoveNet:
        """The network that `save_pretrained` wrote, in fp32 and for use; raises as `load_network` does."""
        return load_network(cls, MoveNetConfig, folder)


class _Convolution(nn.Conv2d):
    """A 3 x 3 convolution padded as TensorFlow's SAME does: with stride 2 of an even side only behind the image."""

    def __init__(self, channels: int, out: int, size: int, stride: int, groups: int = 1, bias: bool = True) -> None:
        super().__init__(channels, out, size, stride, 1 if stride == 1 else 0, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.stride[0] == 1 else F.pad(x, (0, 1, 0, 1)))


class InvertedResidual(nn.Module):
    """1 x 1 to more channels, 3 x 3 in each channel, 1 x 1 back; added to its input where the shapes agree."""

    def __init__(self, channels: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        inside = channels * expansion
        self.expand = nn.Conv2d(channels, inside, 1) if expansion > 1 else None
        self.depthwise = _Convolution(inside, inside, 3, stride, groups=inside)
        self.project = nn.Conv2d(inside, out, 1)
        self.shortcut = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        y = self.project(F.relu6(self.depthwise(y), inplace=True))
        return x + y if self.shortcut else y


class Separable(nn.Module):
    """3 x 3 in each channel, then 1 x 1 over the channels and ReLU."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.depthwise = _Convolution(channels, channels, 3, 1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.pointwise(self.depthwise(x)))


def _head(channels: int, inside: int, out: int) -> nn.Sequential:
    return nn.Sequential(Separable(channels, inside), nn.Conv2d(inside, out, 1))


def decode(maps: MoveNetMaps, index: int, most: int = 6) -> FoundPeople:
    """The `most` surest people of image `index` of a batch, whatever their score, as the published graph decodes them.

    A person is a peak of the center map. Each of its joints is where the joint's heatmap, weighed by the distance from
    the place that the center names and cut to the person's box, is highest. The person's score is the center's times
    the mean of its joints' scores above 0.127; sorted by the center's alone.
    """
    center, box_size, box_offset, regressed, heat, offset = (one[index] for one in maps)
    height, width = center.shape[1:]
    window = F.max_pool2d(center[None], _PEAK_WINDOW, 1, _PEAK_WINDOW // 2)[0]
    peaks = torch.where((center - window).abs() < _PEAK_TOLERANCE, center, 0.0).flatten()
    sure, places = peaks.topk(min(most, len(peaks)))
    y, x = places // width, places % width
    corner = torch.stack([y, x], 1).float()
    middle, half = corner + box_offset[:, y, x].T, box_size[:, y, x].T.clamp(min=0) / 2
    limit = middle.new_tensor([height, width])
    low, high = ((middle + sign * half).clamp(min=0).minimum(limit) for sign in (-1, 1))
    told = corner[:, None] + regressed[:, y, x].T.reshape(-1, N_JOINTS, 2)
    row, column, joint_score = _best_places(heat, told, low, high)
    joints = torch.arange(N_JOINTS, device=row.device).expand_as(row)
    fine = offset.view(N_JOINTS, 2, height, width)[joints, :, row, column]
    xy = (torch.stack([row, column], -1) + fine).flip(-1) * STRIDE
    seen = joint_score > _SEEN
    mean = (joint_score * seen).sum(1) / seen.sum(1).clamp(min=1)
    boxes = torch.cat([low.flip(1), high.flip(1)], 1) * STRIDE
    return FoundPeople(xy, joint_score, sure * mean, boxes)


def _best_places(heat: Tensor, told: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Row, column and weighed height (n, 17 each) of the highest map pixel of each person's joints.

    heat: (17, h, w); told: (n, 17, 2) y, x where joints are expected; low, high: (n, 2) y, x of the boxes.
    """
    height, width = heat.shape[1:]
    rows, columns = (torch.arange(side, device=heat.device).float() for side in (height, width))
    scale = _REACH * min(height, width)
    inside = [(line >= low[:, axis, None]) & (line < high[:, axis, None]) for axis, line in enumerate((rows, columns))]
    # The weight is a product of one along y and one along x.
    along = [
        torch.exp(-((line - told[..., axis, None]) ** 2) / scale) * inside[axis][:, None]
        for axis, line in enumerate((rows, columns))
    ]
    weighed = (heat * along[0][..., :, None] * along[1][..., None, :]).flatten(2)
    best = weighed.argmax(2)
    score = weighed.amax(0).gather(1, best.T).T  # as the graph does: whoever's weight is highest there
    return best // width, best % width, score
