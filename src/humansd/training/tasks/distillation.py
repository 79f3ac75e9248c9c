"""One branch for three: a low-rank change of the UNet that answers at once what guidance makes of several answers."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from humansd.losses.denoising import denoise, mse
from humansd.models.codec import encode_text
from humansd.models.precision import compiled, use_fast_attention
from humansd.pipelines.guidance import Branch, Plan
from humansd.training.tasks.base import BaseTask
from humansd.training.tasks.diffusion import DiffusionTask
from humansd.training.tasks.diffusion_settings import DiffusionSettings
from humansd.training.tasks.distillation_settings import DistillationSettings

WEIGHTS = "pytorch_lora_weights.safetensors"
# Every convolution and matrix of a UNet, by the ends of their names.
_BLOCKS = ("conv_in", "conv_out", "conv1", "conv2", "conv_shortcut", "conv", "time_emb_proj", "linear_1", "linear_2")
_ATTENTION = ("proj_in", "proj_out", "to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
BRANCHES = (Branch(False, False), Branch(False, True), Branch(True, True))


class DistillationTask(BaseTask):
    """Guidance distillation (Meng et al. 2023, "On Distillation of Guided Diffusion Models", Eq. 3) at the guidance
    that the model draws best with, `settings.guidance_scale` and `settings.pose_guidance_scale`.

    The student sees text and pose once, the teacher is asked three times. LoRA (Hu et al. 2022) on every layer learns;
    the UNet stays as it is.
    """

    def __init__(self, settings: DistillationSettings) -> None:
        self.settings = settings
        plain = {field.name: getattr(settings, field.name) for field in dataclasses.fields(DiffusionSettings)}
        self.inner = DiffusionTask(DiffusionSettings(**plain))
        self.teacher = self.inner.unet.requires_grad_(False).eval()
        self.student = copy.deepcopy(self.teacher)
        torch.manual_seed(settings.seed)
        layers = [*_BLOCKS, *_ATTENTION]
        self.student.add_adapter(LoraConfig(r=settings.rank, lora_alpha=settings.rank, target_modules=layers))
        self.module: nn.Module = nn.ParameterList([p for p in self.student.parameters() if p.requires_grad])
        self.plan = Plan(BRANCHES, settings.guidance_scale, settings.pose_guidance_scale, 0.0)
        self.network: Callable[..., Any] = self.student

    describe, check, shapes = DiffusionTask.describe, DiffusionTask.check, DiffusionTask.shapes

    def fingerprint(self) -> dict[str, str]:
        return self.inner.fingerprint()

    def prepare(self, device: torch.device) -> None:
        self.inner.prepare(device)
        self.student.to(device, memory_format=torch.channels_last)
        use_fast_attention(self.student, device)
        if self.settings.compile == "auto":
            self.network = compiled(self.student, device)
        with torch.no_grad():
            self.empty = encode_text(self.inner.tokenizer, self.inner.text_encoder, [""])

    def load(self, samples: range) -> dict[str, Any]:
        return self.inner.load(samples)

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        inner = self.inner.denoising
        parts = {name: one.to(inner.device) for name, one in batch.items() if isinstance(one, Tensor)}
        parts["text"] = inner.text(parts)
        wanted, unguided = self.guided(parts)
        latents, noise, timesteps = parts["latents"], parts["noise"], parts["timesteps"]
        found, _ = denoise(self.network, inner.scheduler, latents, noise, timesteps, inner.inputs(parts))
        error = mse(found, wanted, inner.maps(parts.get("maps"), parts["timesteps"]))
        share = mse(found.detach(), wanted).mean() / mse(unguided, wanted).mean()
        return (error * parts["weights"]).mean(), {"against_unguided": share.item()}

    @torch.no_grad()
    def guided(self, parts: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The teacher's guided answer and the one of its last branch, with text and pose, (n, c, h, w) each.

        parts: as of `DenoisingLoss`, with text (n, tokens, width)."""
        text, pose = parts["text"], parts["pose"]
        texts = [text if one.text else self.empty.expand_as(text) for one in BRANCHES]
        poses = [pose if one.pose else torch.zeros_like(pose) for one in BRANCHES]
        tripled = {name: torch.cat([parts[name]] * 3) for name in ("latents", "noise", "timesteps")}
        inner = self.inner.denoising
        inputs = inner.inputs(tripled | {"text": torch.cat(texts), "pose": torch.cat(poses)})
        latents, noise, timesteps = tripled.values()
        answers = denoise(inner.network, inner.scheduler, latents, noise, timesteps, inputs)[0].float().chunk(3)
        return self.plan.combine(answers), answers[-1]

    def export(self, folder: Path) -> None:
        """Writes the change as diffusers' pipelines load it (`load_lora_weights`)."""
        self.student.eval()
        layers = {name: value.detach().contiguous() for name, value in get_peft_model_state_dict(self.student).items()}
        StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers, weight_name=WEIGHTS)
