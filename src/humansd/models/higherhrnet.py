"""HigherHRNet (Cheng et al., CVPR 2020) in plain PyTorch: joint heatmaps at two resolutions and tags that group them.

Module names are those of the published checkpoints, so that their weights load key for key. One table (`CONFIGS`)
holds the published sizes and the pocket one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from humansd.models.folders import check_fit, load_network, save_network
from humansd.pose.skeleton import COCO17

N_JOINTS = len(COCO17)


@dataclass(frozen=True)
class HigherHRNetConfig:
    """Sizes of the network. Branch b of a stage has `width * 2^b` channels at 1 / 2^(2 + b) of the image.

    modules: high-resolution modules of the stages 2, 3 and 4. stem: channels of the first two convolutions and,
    times 4, of the first stage. mean, std: of RGB in 0..1, as the weights expect them.
    """

    width: int = 32
    input_px: int = 512  # side of the square an image is letterboxed into
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4
    stem: int = 64
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


CONFIGS: dict[str, HigherHRNetConfig] = {
    "w32": HigherHRNetConfig(),  # HigherHRNet, table 1: 28.6 M parameters
    "w48": HigherHRNetConfig(width=48, input_px=640),  # 63.8 M
    "pocket": HigherHRNetConfig(
        width=16, input_px=128, modules=(1, 1, 2), blocks=2, stem=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
    ),
}


class PoseMaps(NamedTuple):
    """What the network says of a batch of images (n, 3, h, w).

    quarter: (n, 17, h/4, w/4) and half: (n, 17, h/2, w/2) heatmaps, about 0..1 and not clipped.
    tags: (n, 17, h/4, w/4), close for the joints of one person (associative embedding, Newell et al. 2017).
    """

    quarter: Tensor
    half: Tensor
    tags: Tensor


def merged(quarter: Tensor, half: Tensor) -> Tensor:
    """Heatmaps (n, 17, h/2, w/2), the mean of both resolutions; the coarse ones go up bilinearly."""
    return (F.interpolate(quarter, size=half.shape[2:], mode="bilinear", align_corners=False) + half) / 2


class HigherHRNet(nn.Module):
    """Images (n, 3, h, w), h and w multiples of 32 -> `PoseMaps`. Differentiable up to the image."""

    def __init__(self, config: HigherHRNetConfig) -> None:
        super().__init__()
        self.config = config
        stem, blocks = config.stem, config.blocks
        widths = [config.width * 2**branch for branch in range(4)]
        self.conv1 = nn.Conv2d(3, stem, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = nn.Conv2d(stem, stem, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem)
        self.layer1 = nn.Sequential(*(Bottleneck(stem * (4 if i else 1), stem) for i in range(blocks)))
        self.transition1 = _transition([4 * stem], widths[:2])
        self.stage2 = _stage(widths[:2], config.modules[0], blocks)
        self.transition2 = _transition(widths[:2], widths[:3])
        self.stage3 = _stage(widths[:3], config.modules[1], blocks)
        self.transition3 = _transition(widths[:3], widths)
        self.stage4 = _stage(widths, config.modules[2], blocks, last_alone=True)
        # Heatmaps and tags at 1/4; then one upsampling by 2 and heatmaps alone.
        self.final_layers = nn.ModuleList(
            [nn.Conv2d(config.width, 2 * N_JOINTS, 1), nn.Conv2d(config.width, N_JOINTS, 1)]
        )
        self.deconv_layers = nn.ModuleList([_upsampling(config.width + 2 * N_JOINTS, config.width, blocks)])
        self._start()

    def forward(self, images: Tensor) -> PoseMaps:
        """images: RGB in [-1, 1], as everywhere in this package; normalised here as the weights expect."""
        return self.unnormalised(self._normalised(images))

    def first_features(self, images: Tensor) -> list[Tensor]:
        """What the layers before the first stage of several resolutions see in images in [-1, 1]: (n, c, h/2, w/2),
        then twice (n, c, h/4, w/4)."""
        first = F.relu(self.bn1(self.conv1(self._normalised(images))))
        second = F.relu(self.bn2(self.conv2(first)))
        return [first, second, self.layer1(second)]

    def _normalised(self, images: Tensor) -> Tensor:
        mean, std = (images.new_tensor(v).view(1, 3, 1, 1) for v in (self.config.mean, self.config.std))
        return ((images + 1) / 2 - mean) / std

    def unnormalised(self, x: Tensor) -> PoseMaps:
        """`forward` behind its normalisation: what the network itself is given (n, 3, h, w)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.layer1(x)
        branches = self.stage2([change(x) for change in self.transition1])
        for transition, stage in ((self.transition2, self.stage3), (self.transition3, self.stage4)):
            # A new branch grows from the coarsest of the present ones.
            grown = [branches[min(i, len(branches) - 1)] for i in range(len(transition))]
            branches = stage([x if change is None else change(x) for change, x in zip(transition, grown, strict=True)])
        finest = branches[0]
        first = self.final_layers[0](finest)
        half = self.final_layers[1](self.deconv_layers[0](torch.cat([finest, first], dim=1)))
        return PoseMaps(first[:, :N_JOINTS], half, first[:, N_JOINTS:])

    def heatmaps(self, images: Tensor) -> Tensor:
        """(n, 17, h/2, w/2), the mean of both resolutions; differentiable."""
        maps = self(images)
        return merged(maps.quarter, maps.half)

    def _start(self) -> None:
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        for layer in self.final_layers:
            assert isinstance(layer, nn.Conv2d)
            nn.init.normal_(layer.weight, std=0.001)
            nn.init.constant_(layer.bias, 0)  # type: ignore[arg-type]

    def save_pretrained(self, folder: Path) -> None:
        """Writes `config.json` and `model.safetensors`."""
        save_network(self, self.config, folder)

    @classmethod
    def from_pretrained(cls, folder: Path) -> HigherHRNet:
        """The network that `save_pretrained` wrote, in fp32 and for use; raises as `load_network` does."""
        return load_network(cls, HigherHRNetConfig, folder)


def load_published(network: HigherHRNet, state: dict[str, Tensor], source: str) -> HigherHRNet:
    """Copies `state`, with the published key names or mmpose's, into `network`; ValueError where it does not fit."""
    named = {published_name(key): tensor for key, tensor in state.items()}
    check_fit(network, named, source)
    network.load_state_dict({key: tensor.float() for key, tensor in named.items()}, strict=False)
    return network


def published_name(key: str) -> str:
    """A key of the published repository, of its DataParallel form, or of mmpose, as this module names it."""
    for prefix in ("module.", "1.", "backbone.", "keypoint_head.", "head."):
        key = key.removeprefix(prefix)
    return key


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(x + self.bn2(self.conv2(y)))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 around a shortcut; `planes` channels inside, 4 times as many outside."""

    def __init__(self, channels: int, planes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.downsample = None
        if channels != 4 * planes:
            self.downsample = nn.Sequential(nn.Conv2d(channels, 4 * planes, 1, bias=False), nn.BatchNorm2d(4 * planes))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(shortcut + self.bn3(self.conv3(y)))


class HighResolutionModule(nn.Module):
    """Branches of `widths` channels, each `blocks` basic blocks, then every branch takes from every other."""

    def __init__(self, widths: list[int], blocks: int, n_out: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(w) for _ in range(blocks))) for w in widths)
        rows = [[_fusion(widths, source, target) for source in range(len(widths))] for target in range(n_out)]
        self.fuse_layers = nn.ModuleList(nn.ModuleList(row) for row in rows)  # type: ignore[arg-type]

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        ys = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        fused = []
        for row in self.fuse_layers:
            assert isinstance(row, nn.ModuleList)
            first, *others = (y if change is None else change(y) for change, y in zip(row, ys, strict=True))
            fused.append(F.relu(sum(others, first)))
        return fused


class _Stage(nn.Sequential):
    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        for module in self:
            xs = module(xs)
        return xs


def _stage(widths: list[int], modules: int, blocks: int, last_alone: bool = False) -> _Stage:
    """`last_alone`: the last module gives the finest branch only, as the heads need no other."""
    outs = [1 if last_alone and i == modules - 1 else len(widths) for i in range(modules)]
    return _Stage(*(HighResolutionModule(widths, blocks, n_out) for n_out in outs))


def _fusion(widths: list[int], source: int, target: int) -> nn.Module | None:
    """From branch `source` to branch `target`: nothing, up by nearest neighbour, or down by strided convolutions."""
    if source == target:
        return None
    if source > target:
        return nn.Sequential(
            nn.Conv2d(widths[source], widths[target], 1, bias=False),
            nn.BatchNorm2d(widths[target]),
            nn.Upsample(scale_factor=2 ** (source - target), mode="nearest"),
        )
    steps: list[nn.Module] = []
    for step in range(target - source):
        last = step == target - source - 1
        steps.append(_conv(widths[source], widths[target if last else source], stride=2, relu=not last))
    return nn.Sequential(*steps)


def _transition(before: list[int], after: list[int]) -> nn.ModuleList:
    changes: list[nn.Module | None] = []
    for branch, width in enumerate(after):
        if branch >= len(before):
            changes.append(nn.Sequential(_conv(before[-1], width, stride=2)))
        else:
            changes.append(_conv(before[branch], width) if before[branch] != width else None)
    return nn.ModuleList(changes)  # type: ignore[arg-type]


def _conv(channels: int, out: int, stride: int = 1, relu: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)]
    return nn.Sequential(*layers, nn.ReLU()) if relu else nn.Sequential(*layers)


def _upsampling(channels: int, out: int, blocks: int) -> nn.Sequential:
    first = nn.Sequential(nn.ConvTranspose2d(channels, out, 4, 2, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU())
    return nn.Sequential(first, *(nn.Sequential(BasicBlock(out)) for _ in range(blocks)))
