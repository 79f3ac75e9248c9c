"""What a small model sees in the image that x0 decodes to, for the adapters of CN117392675A.

The loss knows `Sight` alone: what is seen and how sure it is, what should be seen of a pose, and the squared distance
of the two, which is the small model's own. Key points by a HigherHRNet and person masks by a SegFormer are two of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny
from numpy.typing import NDArray
from torch import Tensor, nn

from humansd.losses.dual_adapter import masks_distance, normalized_points, points_distance, soft_argmax
from humansd.models.codec import decode_latents
from humansd.models.higherhrnet import HigherHRNet
from humansd.models.segmenter import Segmenter
from humansd.models.tiny_decoder import TinyDecoder
from humansd.pose.maps import person_mask
from humansd.pose.people import People

OVERSAMPLING = 4  # a mask is drawn so many times as large as it is compared, and averaged

Masks = Sequence[NDArray[np.bool_] | None]


Decoder: TypeAlias = AutoencoderKL | AutoencoderTiny | TinyDecoder


class Sight(ABC):
    """A decoder and a small model behind it; all of it differentiable. None of their weights learns."""

    network: nn.Module

    def __init__(self, decoder: Decoder, network: nn.Module, shown_px: int) -> None:
        """shown_px: side of the image that the small model is shown."""
        self.decoder, self.shown_px = decoder.requires_grad_(False).eval(), shown_px
        self.network = network.requires_grad_(False).eval()

    def to(self, device: torch.device) -> None:
        """Moves the networks."""
        self.decoder.to(device)
        self.network.to(device)

    def images(self, clean: Tensor) -> Tensor:
        """x0 (n, c, h, w) as images (n, 3, H, W) in [-1, 1]."""
        if isinstance(self.decoder, TinyDecoder):
            return self.decoder(clean.to(self.decoder.dtype)).float().clamp(-1, 1)
        if isinstance(self.decoder, AutoencoderTiny):
            scaled = clean.to(self.decoder.dtype) / self.decoder.config.scaling_factor
            return self.decoder.decode(scaled, return_dict=False)[0].float().clamp(-1, 1)
        return decode_latents(self.decoder, clean).float().clamp(-1, 1)

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What is seen in images (n, 3, H, W) in [-1, 1], and how sure each value of it is, 0..1 without a gradient;
        (n, ...) both."""
        side = self.shown_px
        if images.shape[2:] != (side, side):
            images = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        return self._look(images)

    def see(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        """The same in x0 (n, c, h, w)."""
        return self.look(self.images(clean))

    @abstractmethod
    def _look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """`look` in images of `shown_px`."""

    @abstractmethod
    def wanted(self, people: Sequence[People], own: Masks) -> tuple[Tensor, Tensor]:
        """What should be seen of one person each, as `look` gives it, and which values of it are known, bool.

        people: on the square canvas of their image. own: that image's own person mask (H, W), where it has one.
        """

    @abstractmethod
    def distance(self, first: Tensor, second: Tensor, weights: Tensor) -> Tensor:
        """The squared distance (n,) of two things seen; weights: how much each value counts, 0..1."""


class KeyPointSight(Sight):
    """Where the joints of one person are: normalised points (n, 17, 2), and the heatmaps' peaks (n, 17)."""

    network: HigherHRNet

    def __init__(self, decoder: Any, network: HigherHRNet, shown_px: int, sharpness: float) -> None:
        """sharpness: of `soft_argmax`."""
        super().__init__(decoder, network, shown_px)
        self.sharpness = sharpness

    def _look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        heatmaps = self.network.heatmaps(images)
        points, confidence = soft_argmax(heatmaps, self.sharpness)
        return normalized_points(points, (heatmaps.shape[3], heatmaps.shape[2])), confidence

    def wanted(self, people: Sequence[People], own: Masks) -> tuple[Tensor, Tensor]:
        """See `Sight.wanted`: the labelled joints; masks are not looked at."""
        labelled = np.stack([one.labelled[0] for one in people])
        xy = np.where(labelled[..., None], np.stack([one.xy[0] for one in people]), 0.0)
        points = normalized_points(torch.from_numpy(xy).float(), people[0].canvas)
        return points, torch.from_numpy(labelled)

    def distance(self, first: Tensor, second: Tensor, weights: Tensor) -> Tensor:
        """See `Sight.distance`: a sum over the points."""
        return points_distance(first, second, weights)


class MaskSight(Sight):
    """Which pixels show a person: a map (n, h, w) of probabilities, as sure everywhere (n, 1, 1)."""

    network: Segmenter

    @property
    def side(self) -> int:
        """px of a side of the masks."""
        return self.shown_px // self.network.stride

    def _look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        masks = self.network.masks(images)
        return masks, masks.new_ones(len(masks), 1, 1)

    def wanted(self, people: Sequence[People], own: Masks) -> tuple[Tensor, Tensor]:
        """See `Sight.wanted`: the image's own mask, or that of the key points; shares of a pixel."""
        side, fine = self.side, self.side * OVERSAMPLING
        whole = [person_mask(one, (fine, fine)) > 0 if mask is None else mask for one, mask in zip(people, own)]
        each = [torch.from_numpy(mask.astype(np.float32))[None, None] for mask in whole]
        small = torch.cat([F.interpolate(mask, size=(side, side), mode="area")[0] for mask in each])
        return small, torch.ones(len(small), 1, 1, dtype=torch.bool)

    def distance(self, first: Tensor, second: Tensor, weights: Tensor) -> Tensor:
        """See `Sight.distance`: the mean over the pixels."""
        return masks_distance(first, second, weights)
