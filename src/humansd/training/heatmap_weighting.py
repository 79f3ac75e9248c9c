"""The weight of the heatmap-guided loss while a UNet learns: look for people in what was missed, make a map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler
from torch import Tensor

from humansd.losses.heatmap import heatmap_weight, noise_difference, reference_weight
from humansd.models.codec import decode_latents, encode_images
from humansd.models.estimators import load_estimator
from humansd.models.higherhrnet import HigherHRNet, PoseMaps, merged
from humansd.models.latent_heatmap import LatentHeatmapHead
from humansd.training.tasks.diffusion_settings import TAUGHT, DiffusionSettings, TeacherSettings
from humansd.training.teachers import check_fit, shown_px, teacher_folder, teacher_of

PREDICTION_LOSSES = (*TAUGHT, "latent-heatmap")  # losses whose weight depends on the prediction


class LossWeighter(Protocol):
    """Gives the weight of a loss from what the network missed."""

    def weight(self, difference: Tensor, seeds: Sequence[int]) -> Tensor:
        """(n, 1 or c, h, w) for a noise difference (n, c, h, w); no gradient. seeds: of each sample's own noise."""

    def to(self, device: torch.device) -> None:
        """Moves its own network to `device`."""


def make_loss_weighter(settings: DiffusionSettings, vae: AutoencoderKL, image_px: int) -> LossWeighter:
    """What weighs the loss `settings.loss`, on the CPU. image_px: side of the images that are learnt from.

    Raises:
        ValueError, OSError: the estimator or the head that it needs is not there or does not fit the images or the
            latents; the message names it.
    """
    if settings.loss == "latent-heatmap":
        head, channels = load_head(settings.head), vae.config.latent_channels
        if head.config.channels != channels:
            raise ValueError(
                f"head = {settings.head!r}: reads latents of {head.config.channels} channels, and the VAE of "
                f"{settings.components or settings.base_model} makes {channels}; train one for it with `humansd train "
                "pocket-latent-heatmap`"
            )
        return LatentHeatmapWeighter(settings, head)
    teacher = load_teacher(settings, vae, image_px)
    return ReferenceWeighter(teacher) if settings.loss == "reference" else HeatmapWeighter(settings, teacher)


def loss_weighter_folder(settings: DiffusionSettings) -> Path | None:
    """Where the weights are that guide `settings.loss`; None where none do. Errors as of `make_loss_weighter`."""
    if settings.loss not in PREDICTION_LOSSES:
        return None
    return Path(settings.head) if settings.loss == "latent-heatmap" else teacher_folder(teacher_of(settings))


def load_teacher(settings: TeacherSettings, vae: AutoencoderKL, image_px: int) -> Teacher:
    """The estimator that the loss or the head of `settings` asks, for images of `image_px`; errors as of
    `make_loss_weighter`."""
    found = teacher_of(settings)
    shown = shown_px(settings, found, image_px)
    check_fit(found, image_px, shown)
    return Teacher(load_teacher_network(str(teacher_folder(found))), vae, shown)


def load_teacher_network(source: str) -> HigherHRNet:
    """The HigherHRNet in the folder `source`. Errors as of `load_estimator`."""
    network = load_estimator("higherhrnet", source).networks[0]
    assert isinstance(network, HigherHRNet)
    return network


def load_head(source: str) -> LatentHeatmapHead:
    """The head in the folder `source`. ValueError as of `check_head`."""
    check_head(source)
    return LatentHeatmapHead.from_pretrained(Path(source))


def check_head(source: str) -> None:
    """ValueError where no head is named."""
    if not source:
        raise ValueError(
            "loss = 'latent-heatmap': head is empty; train one with `humansd train pocket-latent-heatmap` and name "
            "its export with --set head=FOLDER"
        )


def noise_residual(scheduler: DDIMScheduler, prediction: Tensor, target: Tensor, timesteps: Tensor) -> Tensor:
    """`losses.heatmap.noise_difference` of what a network predicts under this noise schedule."""
    return noise_difference(prediction, target, scheduler.alphas_cumprod, timesteps, scheduler.config.prediction_type)


class Teacher:
    """HigherHRNet on decoded noise differences: the VAE decodes, the estimator sees.

    shown_px: side of the square that it is shown; 0: what the network was made for.
    """

    def __init__(self, network: HigherHRNet, vae: AutoencoderKL, shown_px: int = 0) -> None:
        self.vae, self.shown_px = vae, shown_px or network.config.input_px
        self.network = network.requires_grad_(False).eval()

    @torch.no_grad()
    def images(self, difference: Tensor) -> Tensor:
        """Noise differences (n, c, h, w) as images (n, 3, f h, f w) in [-1, 1]."""
        return decode_latents(self.vae, difference).float().clamp(-1, 1)

    @torch.no_grad()
    def maps(self, difference: Tensor) -> PoseMaps:
        """What the estimator sees in decoded noise differences (n, c, h, w), normalised as it learnt."""
        images, side = self.images(difference), self.shown_px
        if images.shape[2:] != (side, side):
            images = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        return self.network(images)

    def heatmaps(self, difference: Tensor, resolutions: str) -> Tensor:
        """(n, joints, ., .) heatmaps: resolutions = "both", averaged on the finer grid as in the paper, or "half", the
        finer ones alone."""
        maps = self.maps(difference)
        return merged(maps.quarter.float(), maps.half.float()) if resolutions == "both" else maps.half.float()

    def to(self, device: torch.device) -> None:
        """Moves the network; the VAE is its owner's."""
        self.network.to(device)


class HeatmapWeighter:
    """ "heatmap" (HumanSD Eq. 6)."""

    def __init__(self, settings: DiffusionSettings, teacher: Teacher) -> None:
        self.settings, self.teacher = settings, teacher

    def weight(self, difference: Tensor, seeds: Sequence[int]) -> Tensor:
        """See `LossWeighter.weight`."""
        heatmaps = self.teacher.heatmaps(difference, self.settings.heatmap_resolutions)
        return _weight(self.settings, heatmaps, difference)

    def to(self, device: torch.device) -> None:
        """See `LossWeighter.to`."""
        self.teacher.to(device)


class ReferenceWeighter:
    """ "reference", the weight as the published code computes it, `losses.heatmap.reference_weight`.

    The decoded difference goes to the network at its own size and in 0..1, without the mean and the standard deviation
    that the network learnt with; Z is sampled from the VAE's posterior. What remains different: the sample's noise
    comes from the sample's number, so that a resumed run is the same; and for a network that predicts velocity the
    difference is that of the noises, where the published code would take the velocity for noise.
    """

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher

    @torch.no_grad()
    def weight(self, difference: Tensor, seeds: Sequence[int]) -> Tensor:
        """See `LossWeighter.weight`."""
        images, vae = self.teacher.images(difference), self.teacher.vae
        maps = self.teacher.network.unnormalised((images + 1) / 2)
        noise = [torch.Generator().manual_seed(seed) for seed in seeds]

        def encode(image: Tensor) -> Tensor:
            return encode_images(vae, image, sample=True, generator=noise).float()  # type: ignore[arg-type]

        return reference_weight(maps.quarter, maps.half, (images.shape[2], images.shape[3]), encode)

    def to(self, device: torch.device) -> None:
        """See `LossWeighter.to`."""
        self.teacher.to(device)


class LatentHeatmapWeighter:
    """ "latent-heatmap": a head taught by the estimator reads the heatmaps from the latent, so nothing is decoded."""

    def __init__(self, settings: DiffusionSettings, head: LatentHeatmapHead) -> None:
        self.settings, self.head = settings, head.requires_grad_(False).eval()

    @torch.no_grad()
    def weight(self, difference: Tensor, seeds: Sequence[int]) -> Tensor:
        """See `LossWeighter.weight`."""
        return _weight(self.settings, self.head(difference), difference)

    def to(self, device: torch.device) -> None:
        """See `LossWeighter.to`."""
        self.head.to(device)


def _weight(settings: DiffusionSettings, heatmaps: Tensor, difference: Tensor) -> Tensor:
    return heatmap_weight(
        heatmaps,
        (difference.shape[2], difference.shape[3]),
        strength=settings.heatmap_strength,
        threshold=settings.heatmap_threshold,
        reduction="sum" if settings.heatmap_sum else "max",
    )
