"""The weight of the heatmap-guided loss while a UNet learns: look for people in what was missed, make a map."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler
from torch import Tensor

from humansd.losses.heatmap import heatmap_weight, noise_difference, reference_weight
from humansd.models.codec import decode_latents, encode_pictures, vae_factor
from humansd.models.estimators import SHIPPED, load_estimator
from humansd.models.higherhrnet import HigherHRNet, PoseMaps
from humansd.models.latent_heatmap import LatentHeatmapHead
from humansd.models.loading import weights_digest
from humansd.training.settings import DiffusionSettings

GUIDED = ("heatmap", "reference", "latent-heatmap")  # losses whose weight depends on the prediction


class Guide(Protocol):
    """Gives the weight of a loss from what the network missed."""

    def weight(self, difference: Tensor) -> Tensor:
        """(n, 1 or c, h, w) for a noise difference (n, c, h, w); no gradient."""

    def to(self, device: torch.device) -> None:
        """Moves its own network to `device`."""


def make_guide(settings: DiffusionSettings, vae: AutoencoderKL) -> Guide:
    """The guide of `settings.loss`, one of GUIDED, on the CPU.

    Raises:
        ValueError, OSError: the estimator or the head that it needs is not there, or the head is one for other latents;
            the message names it.
    """
    if settings.loss == "latent-heatmap":
        head, channels = load_head(settings.head), vae.config.latent_channels
        if head.config.channels != channels:
            raise ValueError(
                f"head = {settings.head!r}: reads latents of {head.config.channels} channels, and the VAE of "
                f"{settings.parts} makes {channels}; train one for it with `humansd train pocket-latent-heatmap`"
            )
        return LatentGuide(settings, head)
    teacher = Teacher(load_teacher_network(settings.estimator), vae)
    return ReferenceGuide(teacher) if settings.loss == "reference" else HeatmapGuide(settings, teacher)


def guide_digest(settings: DiffusionSettings) -> str:
    """A digest of the weights that guide `settings.loss`; "none" where none do."""
    if settings.loss not in GUIDED:
        return "none"
    return weights_digest(settings.head) if settings.loss == "latent-heatmap" else teacher_digest(settings.estimator)


def load_teacher_network(source: str) -> HigherHRNet:
    """The HigherHRNet in the folder `source`; "" is the one that ships. Errors as of `load_estimator`."""
    network = load_estimator("higherhrnet", source).networks[0]
    assert isinstance(network, HigherHRNet)
    return network


def teacher_digest(source: str) -> str:
    """A digest of the weights that `load_teacher_network` loads."""
    return weights_digest(source or SHIPPED / "higherhrnet")


def load_head(source: str) -> LatentHeatmapHead:
    """The head in the folder `source`.

    Raises:
        ValueError: `source` is empty.
    """
    if not source:
        raise ValueError(
            "loss = 'latent-heatmap': head is empty; train one with `humansd train pocket-latent-heatmap` and name "
            "its export with --set head=FOLDER"
        )
    return LatentHeatmapHead.from_pretrained(Path(source))


def missed_noise(scheduler: DDIMScheduler, prediction: Tensor, target: Tensor, timesteps: Tensor) -> Tensor:
    """`losses.heatmap.noise_difference` of what a network predicts under this noise schedule."""
    return noise_difference(prediction, target, scheduler.alphas_cumprod, timesteps, scheduler.config.prediction_type)


class Teacher:
    """HigherHRNet on decoded noise differences: the VAE decodes, the estimator sees."""

    def __init__(self, network: HigherHRNet, vae: AutoencoderKL) -> None:
        self.vae = vae
        self.network = network.requires_grad_(False).eval()

    @torch.no_grad()
    def heatmaps(self, difference: Tensor) -> PoseMaps:
        """What the estimator sees in a decoded noise difference (n, c, h, w)."""
        pictures = decode_latents(self.vae, difference).float().clamp(-1, 1)
        side = self.network.config.input_px
        if pictures.shape[2:] != (side, side):
            pictures = F.interpolate(pictures, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        return self.network(pictures)

    def to(self, device: torch.device) -> None:
        """Moves the network; the VAE is its owner's."""
        self.network.to(device)


class HeatmapGuide:
    """ "heatmap" (HumanSD Eq. 6)."""

    def __init__(self, settings: DiffusionSettings, teacher: Teacher) -> None:
        self.settings, self.teacher = settings, teacher

    def weight(self, difference: Tensor) -> Tensor:
        """See `Guide.weight`."""
        return _weight(self.settings, self.teacher.heatmaps(difference).half, difference)

    def to(self, device: torch.device) -> None:
        """See `Guide.to`."""
        self.teacher.to(device)


class ReferenceGuide:
    """ "reference", the published code's variant."""

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher

    def weight(self, difference: Tensor) -> Tensor:
        """See `Guide.weight`."""
        maps, vae = self.teacher.heatmaps(difference), self.teacher.vae
        height, width = (side * vae_factor(vae) for side in difference.shape[2:])

        def encode(picture: Tensor) -> Tensor:
            if picture.shape[2:] != (height, width):  # an estimator for pictures of another size
                picture = F.interpolate(picture, size=(height, width), mode="bilinear", align_corners=False)
            return encode_pictures(vae, picture).float()

        return reference_weight(maps.quarter, maps.half, encode)

    def to(self, device: torch.device) -> None:
        """See `Guide.to`."""
        self.teacher.to(device)


class LatentGuide:
    """ "latent-heatmap": a head taught by the estimator reads the heatmaps from the latent, so nothing is decoded."""

    def __init__(self, settings: DiffusionSettings, head: LatentHeatmapHead) -> None:
        self.settings, self.head = settings, head.requires_grad_(False).eval()

    @torch.no_grad()
    def weight(self, difference: Tensor) -> Tensor:
        """See `Guide.weight`."""
        return _weight(self.settings, self.head(difference), difference)

    def to(self, device: torch.device) -> None:
        """See `Guide.to`."""
        self.head.to(device)


def _weight(settings: DiffusionSettings, heatmaps: Tensor, difference: Tensor) -> Tensor:
    return heatmap_weight(
        heatmaps,
        (difference.shape[2], difference.shape[3]),
        strength=settings.heatmap_strength,
        threshold=settings.heatmap_threshold,
        reduction="sum" if settings.heatmap_sum else "max",
    )
