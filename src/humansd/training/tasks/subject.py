"""One person learnt from a few images: LoRA on the UNet's attention, with prior preservation.

Ruiz et al. 2023, "DreamBooth", sec. 3.3, Eq. 2; a low-rank change in place of all weights. The adapters stay as they
are, so the change goes together with any of them: any person in any pose.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from humansd.data.image_cache import ImageCache
from humansd.training.tasks.base import BaseTask
from humansd.training.tasks.diffusion import DiffusionTask
from humansd.training.tasks.diffusion_settings import DiffusionSettings
from humansd.training.tasks.subject_settings import SubjectSettings

WEIGHTS = "pytorch_lora_weights.safetensors"
LAYERS = ["to_q", "to_k", "to_v", "to_out.0"]


class SubjectTask(BaseTask):
    """`Task` of `training.loop`. Each sample is an image of the subject beside one of the prior."""

    def __init__(self, settings: SubjectSettings) -> None:
        """ValueError where no subject is named; others as of `DiffusionTask`."""
        if not settings.subject:
            raise ValueError("subject is empty; name a folder of shards of one person with --set subject=FOLDER")
        self.settings = settings
        plain = {field.name: getattr(settings, field.name) for field in dataclasses.fields(DiffusionSettings)}
        self.inner = DiffusionTask(DiffusionSettings(**{**plain, "data": settings.subject}))
        if settings.subject_prompt:
            cache = self.inner.image_cache
            assert isinstance(cache, ImageCache)  # without buckets, the settings say
            captions = [[settings.subject_prompt]] * len(cache)
            self.inner.image_cache = dataclasses.replace(cache, captions=captions)
        self.prior: DiffusionTask | None = None
        if settings.prior_weight:
            self.prior = DiffusionTask(DiffusionSettings(**plain))
            for name in ("networks", "unet", "vae", "text_encoder", "denoising"):  # one of each for both
                setattr(self.prior, name, getattr(self.inner, name))
        self.unet = self.inner.unet.requires_grad_(False)
        torch.manual_seed(settings.seed)
        self.unet.add_adapter(LoraConfig(r=settings.rank, lora_alpha=settings.rank, target_modules=LAYERS))
        self.module: nn.Module = nn.ParameterList([p for p in self.unet.parameters() if p.requires_grad])

    describe, check, shapes = DiffusionTask.describe, DiffusionTask.check, DiffusionTask.shapes

    def fingerprint(self) -> dict[str, str]:
        known = self.inner.fingerprint()
        prior = {} if self.prior is None else {"prior_digest": self.prior.image_cache.digest()}
        return {**known, **prior}

    def prepare(self, device: torch.device) -> None:
        self.inner.prepare(device)
        if self.prior is not None:
            self.prior.prepare(device)

    def load(self, samples: range) -> dict[str, Any]:
        """The batches of the subject and of the prior, as of `DiffusionTask.load`."""
        prior = {} if self.prior is None else {"prior": self.prior.load(samples)}
        return {"subject": self.inner.load(samples), **prior}

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """Eq. 2: the error on the subject, and `prior_weight` times that on the prior."""
        loss, _ = self.inner.loss(batch["subject"])
        told = {"subject": loss.item()}
        if self.prior is not None:
            prior, _ = self.prior.loss(batch["prior"])
            told["prior"] = prior.item()
            loss = loss + self.settings.prior_weight * prior
        return loss, told

    def export(self, folder: Path) -> None:
        """Writes the change as diffusers' pipelines load it (`load_lora_weights`, `--lora`)."""
        layers = {name: value.detach().contiguous() for name, value in get_peft_model_state_dict(self.unet).items()}
        StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers, weight_name=WEIGHTS)
