"""The weight of the heatmap-guided loss while a UNet learns: decode what was missed, look for people, make a map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from humansd.losses.heatmap import heatmap_weight, noise_difference, reference_weight
from humansd.models.codec import decode_latents, encode_pictures
from humansd.models.estimators import load_estimator
from humansd.models.higherhrnet import HigherHRNet, PoseMaps
from humansd.training.settings import DiffusionSettings

GUIDED = ("heatmap", "reference")  # losses whose weight depends on the prediction


class HeatmapGuide:
    """Weights of "heatmap" (HumanSD Eq. 6) and of "reference" (the published code's variant).

    Each step decodes the noise difference with the VAE and runs the estimator on it, without gradients.
    """

    def __init__(self, settings: DiffusionSettings, vae: AutoencoderKL, device: torch.device) -> None:
        """ValueError and OSError of `load_estimator` where there is no HigherHRNet."""
        network = load_estimator("higherhrnet", settings.estimator, device).networks[0]
        assert isinstance(network, HigherHRNet)
        self.settings, self.vae = settings, vae
        self.network = network.requires_grad_(False).eval()

    @torch.no_grad()
    def weights(self, prediction: Tensor, target: Tensor, timesteps: Tensor, alphas: Tensor, kind: str) -> Tensor:
        """(n, 1, h, w) for "heatmap", (n, c, h, w) for "reference".

        Args:
            prediction, target: (n, c, h, w), of the prediction type `kind`.
            alphas: alphas_cumprod of the scheduler.
        """
        difference = noise_difference(prediction, target, alphas, timesteps, kind)
        maps = self.heatmaps(difference)
        if self.settings.loss == "reference":
            return reference_weight(maps.quarter, maps.half, self._encode)
        settings = self.settings
        return heatmap_weight(
            maps.half,
            (difference.shape[2], difference.shape[3]),
            strength=settings.heatmap_strength,
            threshold=settings.heatmap_threshold,
            reduction="sum" if settings.heatmap_sum else "max",
            mean_one=settings.heatmap_mean_one,
        )

    @torch.no_grad()
    def heatmaps(self, difference: Tensor) -> PoseMaps:
        """What the estimator sees in a decoded noise difference (n, c, h, w)."""
        pictures = decode_latents(self.vae, difference).float().clamp(-1, 1)
        side = self.network.config.input_px
        if pictures.shape[2:] != (side, side):
            pictures = F.interpolate(pictures, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        return self.network(pictures)

    def _encode(self, pictures: Tensor) -> Tensor:
        return encode_pictures(self.vae, pictures).float()
