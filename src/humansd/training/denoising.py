"""What a UNet's loss is computed from, and how: the one place for the trainer, its benchmarks and its figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor
from transformers import CLIPTextModel

from humansd.losses.denoising import denoise, inside_and_outside, mse
from humansd.losses.weights import mask_share, mean_one
from humansd.methods.protocol import Networks
from humansd.methods.table import find_method
from humansd.models.codec import encode_ids
from humansd.models.precision import compiled, use_fast_attention
from humansd.training.heatmap_weighting import LossWeighter, noise_residual
from humansd.training.tasks.diffusion_settings import DiffusionSettings


class DenoisingLoss:
    """The loss of a batch under `settings` (HumanSD Eq. 1, or Eq. 6 with the weight of its loss).

    A batch is a dictionary, tensors on any device:
        latents, noise (n, c, h, w); timesteps (n,).
        pose: what the method is told, (n, ...); HumanSD: latents (n, c, h, w) of the drawn poses, zero where one is
            dropped. posed: (n,) bool, whose pose is not dropped.
        text: (n, tokens, width), or None; then ids, used (n, tokens) of the prompts (`codec.token_ids`) are encoded.
        weights: (n,), what each sample counts. maps: (n, 1, h, w) weights of the positions, or None.
        cover: (k, 1, h, w), how much people cover of the first k samples, or None.
        seeds: n numbers, of the noise that a loss may need for a sample.
    """

    def __init__(
        self,
        settings: DiffusionSettings,
        networks: Networks,
        scheduler: DDIMScheduler,
        weighter: LossWeighter | None = None,
        text_encoder: CLIPTextModel | None = None,
    ) -> None:
        """text_encoder: for batches without `text`."""
        self.settings, self.networks, self.scheduler, self.weighter = settings, networks, scheduler, weighter
        self.method = find_method(settings.method)
        self.text_encoder = text_encoder
        self.network: Callable[..., Any] = networks.unet  # or compiled
        self.device = torch.device("cpu")
        self.parts: dict[str, float] = {}  # the error inside and outside people, when it was last known

    def prepare(self, device: torch.device) -> None:
        """Moves the networks and what weighs to `device`, and makes them as fast or as small as the settings say."""
        self.device = device
        own = self.networks.pose_network
        for network in (self.networks.unet, *([] if own is None else [own])):
            network.to(device, memory_format=torch.channels_last)
            if hasattr(network, "set_attn_processor"):
                use_fast_attention(network, device, self.networks.unet.config.sample_size)
            if self.settings.gradient_checkpointing and getattr(network, "_supports_gradient_checkpointing", False):
                network.enable_gradient_checkpointing()
        if self.weighter is not None:
            self.weighter.to(device)
        if self.settings.compile == "auto":
            self.network = compiled(self.networks.unet, device)

    def predict(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """What the UNet predicts and should predict, (n, c, h, w), and the timesteps (n,)."""
        parts = {name: one.to(self.device) for name, one in batch.items() if isinstance(one, Tensor)}
        latents, noise, timesteps = parts["latents"], parts["noise"], parts["timesteps"]
        prediction, target = denoise(self.network, self.scheduler, latents, noise, timesteps, self.inputs(parts))
        return prediction, target, timesteps

    def inputs(self, parts: dict[str, Tensor]) -> Callable[[Tensor], dict[str, Any]]:
        """Noisy latents (n, c, h, w) -> the UNet's arguments, by the pose and the text of a batch on this device."""
        text = self.text(parts)
        cached = self.method.latent_drawing
        pose = (parts["pose"],) if cached else self.method.encode(self.networks, parts["pose"])
        return lambda noisy: self.method.unet_inputs(self.networks, noisy, parts["timesteps"], text, pose)

    def text(self, parts: dict[str, Tensor]) -> Tensor:
        """The encoded prompts of a batch on this device, (n, tokens, width)."""
        if "text" in parts:
            return parts["text"]
        assert self.text_encoder is not None
        with torch.set_grad_enabled(self.settings.train_text):
            return encode_ids(self.text_encoder, parts["ids"], parts["used"])

    def maps(self, maps: Tensor | None, timesteps: Tensor) -> Tensor | None:
        """The weights of the positions as the settings' schedule has them at these timesteps."""
        if maps is None:
            return None
        share = mask_share(self.settings.mask_schedule, timesteps, self.scheduler.config.num_train_timesteps)
        return 1 + (maps.to(self.device) - 1) * share.view(-1, 1, 1, 1)

    def missed(self, prediction: Tensor, target: Tensor, timesteps: Tensor) -> Tensor:
        """The noise that a prediction missed, (n, c, h, w); no gradient."""
        return noise_residual(self.scheduler, prediction.detach(), target, timesteps)

    def __call__(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """The mean loss, and numbers worth logging."""
        prediction, target, timesteps = self.predict(batch)
        maps = self.maps(batch["maps"], timesteps)
        if self.weighter is not None:
            maps = self.weighter.weight(self.missed(prediction, target, timesteps), batch["seeds"])
        if maps is not None and self.settings.weight_mean_one:
            maps = mean_one(maps)
        if maps is not None and not self.settings.weigh_unposed:
            posed = batch["posed"].to(self.device).view(-1, 1, 1, 1)
            maps = torch.where(posed, maps, torch.ones_like(maps))
        error = mse(prediction, target, maps)
        weighted = (error * batch["weights"].to(self.device)).mean()
        return weighted, self._numbers(prediction.detach(), target, batch["timesteps"], batch["cover"])

    def _numbers(self, prediction: Tensor, target: Tensor, timesteps: Tensor, cover: Tensor | None) -> dict[str, float]:
        """The plain error of all samples, of each quarter of the timesteps that this batch has (0: the least noise),
        and inside and outside people, of the last batch that knows where they are."""
        error = mse(prediction, target).cpu()  # the only wait for a GPU
        numbers = {"unweighted": error.mean().item()}
        quarter = timesteps.cpu() * 4 // self.scheduler.config.num_train_timesteps
        for q in range(4):
            if (quarter == q).any():
                numbers[f"quarter_{q}"] = error[quarter == q].mean().item()
        if cover is not None:
            known = slice(len(cover))
            self.parts = inside_and_outside(prediction[known], target[known], cover.to(prediction.device))
        return numbers | self.parts
