"""Teaching the latent heatmap head: what the estimator sees in decoded noise differences, from the latents alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from humansd.models.latent_heatmap import LatentHeatmapConfig, LatentHeatmapHead
from humansd.training.counting import Shapes
from humansd.training.heatmap_weighting import load_teacher
from humansd.training.identity import digests
from humansd.training.tasks.base import BaseTask
from humansd.training.tasks.diffusion import DiffusionTask
from humansd.training.tasks.diffusion_settings import TeacherSettings
from humansd.training.tasks.diffusion_shapes import diffusion_shapes, latent_size
from humansd.training.tasks.latent_head_settings import HeadSettings
from humansd.training.teachers import check_weights, describe_teacher, teacher_folder, teacher_of

HEAT_WEIGHT = 10.0  # an error where there is heat counts 1 + this: most of a map is empty


class HeadTask(BaseTask):
    """A frozen UNet misses noise on the data; the head learns the heatmaps that the teacher reads from it."""

    def __init__(self, settings: HeadSettings) -> None:
        self.settings = settings
        self.inner = DiffusionTask(settings.denoising())
        torch.manual_seed(settings.seed)
        self.teacher = load_teacher(settings, self.inner.vae, self.inner.image_cache.size)
        self.module = LatentHeatmapHead(LatentHeatmapConfig(channels=self.inner.vae.config.latent_channels))

    @staticmethod
    def describe(settings: HeadSettings) -> dict[str, Any]:
        """See `BaseTask.describe`."""
        words = {"name": "the teacher's heatmaps", "is": "squared error of the head's heatmaps"}
        return {"loss": words | describe_teacher(settings)}

    @staticmethod
    def check(settings: HeadSettings) -> None:
        """See `BaseTask.check`."""
        check_weights(settings)

    @staticmethod
    def shapes(settings: HeadSettings) -> Shapes:
        """See `BaseTask.shapes`."""
        # The teacher is asked of the same differences as where it weighs the loss.
        asked = {field.name: getattr(settings, field.name) for field in dataclasses.fields(TeacherSettings)}
        inner = diffusion_shapes(dataclasses.replace(settings.denoising(), loss="heatmap", **asked))
        assert inner.unet is not None
        channels, size = inner.unet.config.out_channels, latent_size(inner.unet)
        head = LatentHeatmapHead(LatentHeatmapConfig(channels=channels))

        def forward(samples: int) -> Any:
            return head(torch.empty(samples, channels, *size, device="meta"))

        def guiding(samples: int) -> Any:
            assert inner.guiding is not None
            inner.forward(samples)
            return inner.guiding(samples)

        frozen = {**inner.frozen, "unet": inner.unet.requires_grad_(False)}
        name = f"the heatmap head of {inner.name}"
        return Shapes(name, head, frozen, forward, guiding=guiding, caching=inner.caching)

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
