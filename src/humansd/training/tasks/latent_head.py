"""Teaching the latent heatmap head: what the estimator sees in decoded noise differences, from the latents alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from humansd.models.latent_heatmap import LatentHeatmapConfig, LatentHeatmapHead
from humansd.training.heatmap_weighting import load_teacher
from humansd.training.identity import digests
from humansd.training.settings import DiffusionSettings, HeadSettings
from humansd.training.tasks.diffusion import DiffusionTask
from humansd.training.teachers import teacher_folder, teacher_of

HEAT_WEIGHT = 10.0  # an error where there is heat counts 1 + this: most of a map is empty


class HeadTask:
    """A frozen UNet misses noise on the data; the head learns the heatmaps that the teacher reads from it."""

    def __init__(self, settings: HeadSettings) -> None:
        self.settings = settings
        plain = {field.name: getattr(settings, field.name) for field in dataclasses.fields(DiffusionSettings)}
        self.inner = DiffusionTask(DiffusionSettings(**{**plain, "loss": "ldm"}))
        torch.manual_seed(settings.seed)
        self.teacher = load_teacher(settings, self.inner.vae, self.inner.image_cache.size)
        self.module = LatentHeatmapHead(LatentHeatmapConfig(channels=self.inner.vae.config.latent_channels))

    def fingerprint(self) -> dict[str, str]:
        return {**self.inner.fingerprint(), **digests("estimator", teacher_folder(teacher_of(self.settings)))}

    def prepare(self, device: torch.device) -> None:
        self.inner.prepare(device)
        self.inner.unet.requires_grad_(False).eval()
        self.teacher.to(device)
        self.module.to(device)

    def load(self, samples: range) -> dict[str, Any]:
        return self.inner.load(samples)

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        with torch.no_grad():
            prediction, target, timesteps = self.inner.predict(batch)
            difference = self.inner.denoising.missed(prediction, target, timesteps)
            size = (difference.shape[2], difference.shape[3])
            heatmaps = self.teacher.heatmaps(difference, self.settings.heatmap_resolutions)
            heat = F.interpolate(heatmaps, size=size, mode="area").clamp(0, 1)
        found = self.module(difference).float()
        error = ((found - heat).square() * (1 + HEAT_WEIGHT * heat)).mean()
        empty = (heat.square() * (1 + HEAT_WEIGHT * heat)).mean()  # what a head that sees nobody would score
        return error, {"against_nothing": (error / empty.clamp(min=1e-12)).item(), "heat": heat.amax(1).mean().item()}

    def export(self, folder: Path) -> None:
        """Writes the head."""
        self.module.eval()
        self.module.save_pretrained(folder)

    def log_images(self, folder: Path, step: int) -> None:
        """Nothing to draw."""
