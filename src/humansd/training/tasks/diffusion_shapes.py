"""A denoising run's networks on the meta device, of which its memory is counted."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from humansd.checkpoints.original_format import ModelFamily
from humansd.data.latents import images_at_once
from humansd.methods.table import find_method
from humansd.models.codec import encode_images, vae_scale_factor
from humansd.models.higherhrnet import HigherHRNet
from humansd.models.latent_heatmap import LatentHeatmapConfig, LatentHeatmapHead
from humansd.training.bases import CLIP_VOCABULARY, base_name, check_start, part_config, start_config
from humansd.training.counting import Shapes
from humansd.training.heatmap_weighting import (
    HeatmapWeighter,
    LatentHeatmapWeighter,
    LossWeighter,
    ReferenceWeighter,
    Teacher,
)
from humansd.training.tasks.diffusion_networks import frozen_but
from humansd.training.tasks.diffusion_settings import DiffusionSettings
from humansd.training.teachers import shown_px, teacher_of


def family_shapes(family: ModelFamily, side_px: int) -> Shapes:
    """HumanSD of a family of Stable Diffusion, at images of `side_px`."""
    text = {"vocab_size": CLIP_VOCABULARY, "max_position_embeddings": 77, **family.text}
    return _shapes(family.name, family.unet, family.vae, text, DiffusionSettings(method="humansd"), side_px=side_px)


def diffusion_shapes(settings: DiffusionSettings) -> Shapes:
    """Of a run with these settings. ValueError, OSError: a method or a teacher that is not known; as `check_start`."""
    check_start(settings)
    parts = settings.components or settings.base_model
    configs = (start_config(settings), part_config(parts, "vae"), part_config(parts, "text_encoder"))
    return _shapes(base_name(settings), *configs, settings)


def _shapes(
    name: str,
    unet_config: dict[str, Any],
    vae_config: dict[str, Any],
    text_config: dict[str, Any],
    settings: DiffusionSettings,
    *,
    side_px: int = 0,
) -> Shapes:
    """side_px: of the images; 0: those that the UNet was made for."""
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(vae_config).requires_grad_(False)
        text_encoder = CLIPTextModel(CLIPTextConfig(**text_config))
        channels = vae.config.latent_channels
        plain = UNet2DConditionModel.from_config({"in_channels": channels, **unet_config})
        method = find_method(settings.method)
        networks = method.build(plain, vae)
        unet = networks.unet
    height, width = latent_size(unet, side_px // vae_scale_factor(vae))
    config = text_encoder.config
    pixels = height * vae_scale_factor(vae), width * vae_scale_factor(vae)
    teacher = _teacher(settings, vae, pixels[0])
    guide = _guide(settings, teacher, channels)

    def forward(samples: int) -> Any:
        with torch.device("meta"):
            noisy, steps = torch.empty(samples, channels, height, width), torch.zeros(samples, dtype=torch.long)
            ids = torch.zeros(samples, config.max_position_embeddings, dtype=torch.long)
            text = text_encoder(ids)[0] if settings.train_text else torch.empty(*ids.shape, config.hidden_size)
            pose: tuple[torch.Tensor, ...] = (noisy,)
            if not method.latent_drawing:
                told = method.condition([None] * samples, (pixels[1], pixels[0]), method.draw_style).to("meta")
                pose = method.encode(networks, told)
        return unet(**method.unet_inputs(networks, noisy, steps, text, pose)).sample

    def guiding(samples: int) -> Any:
        assert guide is not None
        return guide.weight(torch.empty(samples, channels, height, width, device="meta"), range(samples))

    def caching() -> Any:
        return encode_images(vae, torch.empty(images_at_once(pixels[0]), 3, *pixels, device="meta"))

    learns = frozen_but(networks, method.learns(networks))
    frozen: dict[str, nn.Module] = {"vae": vae}
    if learns is not unet:
        frozen["unet"] = unet
    if settings.train_text:
        learns = nn.ModuleDict({"unet": learns, "text_encoder": text_encoder})
    else:
        frozen["text_encoder"] = text_encoder
    if teacher is not None:
        frozen[f"teacher {settings.estimator}"] = teacher.network
    elif isinstance(guide, LatentHeatmapWeighter):
        frozen["head"] = guide.head
    return Shapes(name, learns, frozen, forward, unet, guiding if guide is not None else None, caching)


def latent_size(unet: UNet2DConditionModel, side: int = 0) -> tuple[int, int]:
    """Height and width; of a square one, or what the UNet was made for."""
    size = side or unet.config.sample_size
    return (size, size) if isinstance(size, int) else tuple(size)


def _teacher(settings: DiffusionSettings, vae: AutoencoderKL, image_px: int) -> Teacher | None:
    """The estimator that the settings need, with the sizes of the one that they name."""
    if not settings.teacher_wanted_by():
        return None
    found = teacher_of(settings)
    with torch.device("meta"):
        return Teacher(HigherHRNet(found.config), vae, shown_px(settings, found, image_px))


def _guide(settings: DiffusionSettings, teacher: Teacher | None, channels: int) -> LossWeighter | None:
    if settings.loss == "latent-heatmap":
        with torch.device("meta"):
            return LatentHeatmapWeighter(settings, LatentHeatmapHead(LatentHeatmapConfig(channels=channels)))
    if teacher is None:
        return None
    return ReferenceWeighter(teacher) if settings.loss == "reference" else HeatmapWeighter(settings, teacher)
