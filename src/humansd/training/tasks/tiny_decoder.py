"""Training a small decoder of a finished VAE's latents."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from humansd.data.image_cache import to_unit
from humansd.models.codec import encode_images, vae_scale_factor
from humansd.models.tiny_decoder import TinyDecoder
from humansd.training.counting import Shapes
from humansd.training.tasks.autoencoder import AutoencoderTask, memory_format
from humansd.training.tasks.autoencoder_settings import AutoencoderSettings
from humansd.training.tasks.base import BaseTask
from humansd.training.tasks.tiny_decoder_settings import TinyDecoderSettings

PREVIEWS = 16


class TinyDecoderTask(BaseTask):
    """The images from their scaled latents: the VAE is asked and stays as it is. Errors count as in its own training:
    pixels, their differences, colours and an estimator's features."""

    def __init__(self, settings: TinyDecoderSettings) -> None:
        if not settings.init:
            raise ValueError("init is empty; name the folder of the VAE whose latents are decoded, --set init=FOLDER")
        self.settings = settings
        plain = {field.name: getattr(settings, field.name) for field in dataclasses.fields(AutoencoderSettings)}
        self.inner = AutoencoderTask(AutoencoderSettings(**plain))
        self.vae = self.inner.module.requires_grad_(False).eval()
        blocks = tuple(map(int, settings.blocks.split()))
        torch.manual_seed(settings.seed)
        self.module = TinyDecoder(self.vae.config.latent_channels, settings.width, blocks)
        if self.module.scale_factor != vae_scale_factor(self.vae):
            raise ValueError(
                f"blocks = {settings.blocks!r}: decode to {self.module.scale_factor} times the latents' side, and the "
                f"VAE's is {vae_scale_factor(self.vae)}; each number after the first doubles it"
            )

    @staticmethod
    def shapes(settings: TinyDecoderSettings) -> Shapes:
        """See `BaseTask.shapes`."""
        vae = AutoencoderTask.shapes(settings)
        frozen: Any = vae.learns.requires_grad_(False)
        blocks = tuple(map(int, settings.blocks.split()))
        network = TinyDecoder(frozen.config.latent_channels, settings.width, blocks)
        channels, side = network.config.latent_channels, settings.crop // network.scale_factor

        def forward(samples: int) -> Any:
            return network(torch.empty(samples, channels, side, side, device="meta"))

        return Shapes(vae.name, network, {"vae": frozen}, forward)

    def fingerprint(self) -> dict[str, str]:
        return self.inner.fingerprint()

    def prepare(self, device: torch.device) -> None:
        self.inner.prepare(device)
        self.module.to(device, memory_format=memory_format(device))

    def load(self, samples: range) -> Tensor:
        """Crops (n, 3, h, w) in [-1, 1]."""
        return self.inner.load(samples)[0]

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        device = self.inner.device
        images = batch.to(device).contiguous(memory_format=memory_format(device))
        with torch.no_grad():
            latents = encode_images(self.vae, images)
        decoded = self.module(latents).float()
        parts = self.inner.parts(decoded, images)
        psnr = -10 * torch.log10((decoded.detach() - images).square().mean() / 4)
        names, values = zip(*{"psnr": psnr, **parts}.items(), strict=True)
        return self.inner.total(parts), dict(zip(names, torch.stack(values).detach().tolist(), strict=True))

    def export(self, folder: Path) -> None:
        """Writes the decoder, as `MODEL/tiny_decoder` holds it."""
        self.module.eval()
        self.module.save_pretrained(folder, safe_serialization=True)

    @torch.no_grad()
    def log_images(self, folder: Path, step: int) -> None:
        """Images above, what the decoder makes of their latents below."""
        folder.mkdir(parents=True, exist_ok=True)
        self.module.eval()
        images = self.inner.image_cache.images[:PREVIEWS]
        decoded = self.module(encode_images(self.vae, to_unit(images).to(self.inner.device))).float().clamp(-1, 1)
        rebuilt = ((decoded + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in (images, rebuilt)], axis=0)
        Image.fromarray(sheet).save(folder / f"step-{step:08d}.png")
        self.module.train()
