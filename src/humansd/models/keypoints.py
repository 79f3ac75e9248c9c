"""The estimator that runs HigherHRNet: letterbox, network, flip test, decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from humansd.models.batches import in_batches
from humansd.models.higherhrnet import HigherHRNet, PoseMaps, merged
from humansd.models.higherhrnet_codec import Grouping, decode
from humansd.models.letterbox import letterbox, people_from_maps
from humansd.pose.people import People
from humansd.pose.skeleton import COCO17

MAP_STRIDE = 2  # pixels of the input per pixel of the finer maps
GROUPING = Grouping()
SIGMAS = np.array(COCO17.sigmas, np.float32)


@dataclass(frozen=True, eq=False)
class HigherHRNetEstimator:
    """`PoseEstimator` around a HigherHRNet (Cheng et al. 2020, sec. 4.1: test with flip, maps of both resolutions).

    Images are letterboxed into a square of `input_px`; the published AP is measured with the *short* side at that
    size, on maps twice as fine, so it is not reproduced to the digit.

    rules: how peaks become people. flip_test: a second pass over the mirrored image, averaged; twice the time.
    batch_size: images at once. name: see `PoseEstimator.name`.
    """

    network: HigherHRNet
    rules: Grouping = GROUPING
    flip_test: bool = True
    batch_size: int = 16
    name: str = "higherhrnet"

    @classmethod
    def from_pretrained(cls, folder: Path, device: torch.device | str = "cpu") -> HigherHRNetEstimator:
        """From a folder of `HigherHRNet.save_pretrained`."""
        return cls(HigherHRNet.from_pretrained(folder).to(device))

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """See `PoseEstimator.networks`."""
        return (self.network,)

    @torch.no_grad()
    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[People]:
        """See `PoseEstimator.detect`."""
        side = self.network.config.input_px
        overlap = next(self.network.parameters()).is_cuda
        return in_batches(
            images, self.batch_size, lambda batch: self.maps(letterbox(batch, side)), self._read, overlap=overlap
        )

    def _read(self, maps: tuple[torch.Tensor, torch.Tensor], batch: Sequence[NDArray[np.uint8]]) -> list[People]:
        side, found = self.network.config.input_px, decode(*maps, SIGMAS, self.rules)
        return [
            people_from_maps(
                one.xy, one.joint_score, one.person_score, MAP_STRIDE, side, (image.shape[1], image.shape[0])
            )
            for one, image in zip(found, batch, strict=True)
        ]

    @torch.no_grad()
    def maps(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Heatmaps (n, 17, h/2, w/2) and tags (n, 17, h/4, w/4, 1 or 2) of images (n, 3, h, w) in [-1, 1]."""
        images = images.to(next(self.network.parameters()).device)
        maps: PoseMaps = self.network(images)
        if not self.flip_test:
            return merged(maps.quarter, maps.half), maps.tags[..., None]
        again = self.network(images.flip(3))
        order = list(COCO17.flip_order)
        quarter, half, tags = (one[:, order].flip(3) for one in again)
        heat = merged((maps.quarter + quarter) / 2, (maps.half + half) / 2)
        return heat, torch.stack([maps.tags, tags], dim=-1)
