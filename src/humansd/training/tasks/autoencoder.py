"""Training the VAE on crops of images and of drawn skeletons."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from humansd.data.image_cache import ImageCache, find_image_cache, to_unit
from humansd.inference.image_info import contact_sheet
from humansd.models.codec import decode_latents, encode_images, vae_scale_factor
from humansd.models.digests import networks_digest
from humansd.models.higherhrnet import HigherHRNet
from humansd.models.loading import load_part
from humansd.models.pocket import pocket_vae
from humansd.models.precision import can_compile
from humansd.pose.render import HUMANSD_STYLE, draw_people
from humansd.training.bases import part_config
from humansd.training.counting import Shapes
from humansd.training.identity import digests
from humansd.training.randomness import data_row, sample_noise, sample_rng
from humansd.training.tasks.autoencoder_settings import AutoencoderSettings
from humansd.training.tasks.base import BaseTask
from humansd.training.teachers import find_teacher, teacher_folder


class AutoencoderTask(BaseTask):
    """Reconstruction: L1 on pixels, on pixel differences at three scales, on colour and on features; a trace of KL
    (LDM, app. G). A share of the latents must stay true when they are scaled (EQ-VAE, Kouzelis et al. 2025, Eq. 4)."""

    def __init__(self, settings: AutoencoderSettings) -> None:
        self.settings = settings
        self.image_cache = find_image_cache(Path(settings.data), settings.image_size)
        if not 0 < settings.crop <= self.image_cache.size or settings.crop % 16:
            raise ValueError(
                f"crop = {settings.crop}: must be a multiple of 16, at most the images' {self.image_cache.size} px"
            )
        torch.manual_seed(settings.seed)
        self.module = load_part(AutoencoderKL, settings.init) if settings.init else pocket_vae()
        self.eye: HigherHRNet | None = None
        self.rebuild: Callable[..., tuple[Tensor, Tensor, Tensor]] = self._rebuild  # or compiled
        if settings.feature_weight:
            teacher = find_teacher(settings.estimator, "feature_weight")
            self.eye = HigherHRNet.from_pretrained(teacher_folder(teacher)).requires_grad_(False)

    @staticmethod
    def shapes(settings: AutoencoderSettings) -> Shapes:
        """See `BaseTask.shapes`."""
        own = Path(settings.init) / "config.json"
        config = json.loads(own.read_text()) if settings.init and own.exists() else part_config("", "vae")
        vae = AutoencoderKL.from_config(config)

        def forward(samples: int) -> Any:
            return vae(torch.empty(samples, 3, settings.crop, settings.crop, device="meta")).sample

        return Shapes(settings.init or "pocket size", vae, {}, forward)

    def fingerprint(self) -> dict[str, str]:
        known = {**digests("init", self.settings.init), "data_digest": self.image_cache.digest()}
        return known | ({"estimator_weights": networks_digest([self.eye])} if self.eye else {})

    def prepare(self, device: torch.device) -> None:
        self.device = device
        # On a CPU the backward pass of group norm over few channels is up to 40 times slower in channels_last.
        self.module.to(device, memory_format=memory_format(device))
        if self.eye is not None:
            self.eye.to(device)
        if self.settings.compile == "auto" and device.type == "cuda" and can_compile(device):
            self.rebuild = torch.compile(self._rebuild, dynamic=False)

    def load(self, samples: range) -> tuple[Tensor, Tensor]:
        """Crops (n, 3, h, w) in [-1, 1], and noise of the shape of their latents."""
        crops, noises = zip(*(self._crop(index) for index in samples), strict=True)
        return to_unit(np.stack(crops)), torch.stack(noises)

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, float]]:
        crops, noise = (part.to(self.device) for part in batch)
        images = crops.contiguous(memory_format=memory_format(self.device))
        settings = self.settings
        few = math.ceil(settings.equivariance * len(images))
        decoded, smaller, kl = self.rebuild(images, noise, few)
        parts = self._parts(decoded, images)
        total = self._sum(parts) + settings.kl_weight * kl
        if few:
            halved = self._parts(smaller, F.avg_pool2d(images[:few], 2))
            total = total + self._sum(halved) * few / len(images)
            parts["halved"] = halved["pixels"]
        psnr = -10 * torch.log10((decoded.detach() - images).square().mean() / 4)
        names, values = zip(*{"psnr": psnr, **parts, "kl": kl}.items(), strict=True)
        return total, dict(zip(names, torch.stack(values).detach().tolist(), strict=True))

    def _rebuild(self, images: Tensor, noise: Tensor, few: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images decoded from sampled latents (n, 3, h, w); the first `few` from latents of half the size
        (few, 3, h/2, w/2); the mean KL."""
        posterior = self.module.encode(images).latent_dist
        latents = posterior.mean + posterior.std * noise
        smaller = self.module.decode(F.avg_pool2d(latents[:few], 2)).sample.float() if few else images[:0]
        return self.module.decode(latents).sample.float(), smaller, posterior.kl().mean()

    def _parts(self, decoded: Tensor, images: Tensor) -> dict[str, Tensor]:
        """The differences of images (n, 3, h, w)."""
        parts = {
            "pixels": (decoded - images).abs().mean(),
            "edges": _difference_error(decoded, images),
            "colors": _color_error(decoded, images),
        }
        return parts | ({"features": _feature_error(self.eye, decoded, images)} if self.eye else {})

    def _sum(self, parts: dict[str, Tensor]) -> Tensor:
        settings = self.settings
        weights = {"pixels": 1.0, "edges": settings.edge_weight, "colors": settings.color_weight}
        weights["features"] = settings.feature_weight
        return torch.stack([weights[name] * value for name, value in parts.items()]).sum()

    def _crop(self, index: int) -> tuple[np.ndarray, Tensor]:
        settings, rng = self.settings, sample_rng(self.settings.seed, index)
        row = data_row(settings.seed, index, len(self.image_cache))
        skeleton = rng.random() < settings.skeleton_share
        image = draw_people(self.image_cache.people[row], HUMANSD_STYLE) if skeleton else self.image_cache.images[row]
        x, y = rng.integers(0, self.image_cache.size - settings.crop + 1, 2)
        crop = image[y : y + settings.crop, x : x + settings.crop]
        factor = vae_scale_factor(self.module)
        shape = (self.module.config.latent_channels, settings.crop // factor, settings.crop // factor)
        return (crop[:, ::-1] if rng.random() < 0.5 else crop), sample_noise(rng, shape)

    @torch.no_grad()
    def export(self, folder: Path) -> None:
        """Writes the VAE with its measured scaling factor, 1 / std of the latents (LDM, app. D.1)."""
        self.module.eval()
        rows = np.linspace(0, len(self.image_cache) - 1, min(256, len(self.image_cache))).astype(int)
        batches = np.array_split(rows, max(1, len(rows) // 16))
        self.module.register_to_config(scaling_factor=1.0)
        means = torch.cat(
            [encode_images(self.module, to_unit(self.image_cache.images[batch])).cpu() for batch in batches]
        )
        self.module.register_to_config(scaling_factor=round(1 / means.float().std().item(), 5))
        self.module.save_pretrained(folder, safe_serialization=True)

    def log_images(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_reconstructions(self.module, self.image_cache, folder / f"step-{step:08d}.png")


@torch.no_grad()
def save_reconstructions(vae: AutoencoderKL, image_cache: ImageCache, path: Path, count: int = 16) -> None:
    """A sheet: images above, reconstructions below."""
    vae.eval()
    images = image_cache.images[:count]
    decoded = decode_latents(vae, encode_images(vae, to_unit(images))).float().clamp(-1, 1)
    rebuilt = ((decoded + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    rows = [(row[0], list(row[1:]), name) for row, name in ((images, "images"), (rebuilt, "reconstructions"))]
    contact_sheet(rows).save(path)


def memory_format(device: torch.device) -> torch.memory_format:
    return torch.contiguous_format if device.type == "cpu" else torch.channels_last


def _difference_error(decoded: Tensor, images: Tensor) -> Tensor:
    total = decoded.new_zeros(())
    for scale in (1, 2, 4):
        a, b = (F.avg_pool2d(x, scale) if scale > 1 else x for x in (decoded, images))
        for axis in (2, 3):
            total = total + (a.diff(dim=axis) - b.diff(dim=axis)).abs().mean()
    return total / 3


def _color_error(decoded: Tensor, images: Tensor) -> Tensor:
    """Mean distance of R - G and B - G, averaged over 2 x 2 px."""
    a, b = (F.avg_pool2d(x[:, (0, 2)] - x[:, 1:2], 2) for x in (decoded, images))
    return (a - b).abs().mean()


def _feature_error(eye: HigherHRNet, decoded: Tensor, images: Tensor) -> Tensor:
    """How far the estimator's first features are apart, as a share of their size; the mean of its layers (in the way of
    Johnson et al. 2016, "Perceptual Losses")."""
    with torch.no_grad():
        wanted = eye.first_features(images)
    pairs = zip(eye.first_features(decoded), wanted, strict=True)
    return torch.stack([(a - b).abs().mean() / b.abs().mean() for a, b in pairs]).mean()
