"""A light head that reads joints' heatmaps straight from a noise difference in latent space, taught by an estimator.

It stands for the two heavy steps of the heatmap-guided loss (decode by the VAE, estimate): the weight then costs a few
convolutions on the latent grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from humansd.models.folders import load_network, save_network


@dataclass(frozen=True)
class LatentHeatmapConfig:
    """channels: of the latent; width: of the head; dilations: one residual block each; joints: maps."""

    channels: int = 8
    width: int = 48
    dilations: tuple[int, ...] = (1, 2, 4, 1)
    joints: int = 17


class Block(nn.Module):
    """Two 3 x 3 convolutions beside an identity."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.first = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(self.norm(x)))))


class LatentHeatmapHead(nn.Module):
    """Noise difference (n, c, h, w) -> heatmaps (n, joints, h, w), about 0..1."""

    def __init__(self, config: LatentHeatmapConfig | None = None) -> None:
        super().__init__()
        self.config = config or LatentHeatmapConfig()
        width = self.config.width
        self.stem = nn.Conv2d(self.config.channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(width, dilation) for dilation in self.config.dilations)
        self.out = nn.Conv2d(width, self.config.joints, 1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, difference: Tensor) -> Tensor:
        # A difference is small late and large early; its shape is what shows people.
        spread = difference.float().square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)
        x = self.stem(difference / spread)
        for block in self.blocks:
            x = block(x)
        return self.out(x)

    def save_pretrained(self, folder: Path) -> None:
        """Writes config.json and model.safetensors."""
        save_network(self, self.config, folder)

    @classmethod
    def from_pretrained(cls, folder: Path) -> LatentHeatmapHead:
        """The head of a folder; errors as in `load_network`."""
        return load_network(cls, LatentHeatmapConfig, folder)
