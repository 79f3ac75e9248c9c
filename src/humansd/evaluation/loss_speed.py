"""One training step with each loss, side by side in one run: samples a second, pairwise ratios."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from humansd.evaluation.tables import markdown_table
from humansd.evaluation.timing import device_name, timed_step
from humansd.losses.denoising import denoise, ldm
from humansd.models.codec import encode_pictures, vae_factor
from humansd.models.higherhrnet import CONFIGS, HigherHRNet, HigherHRNetConfig
from humansd.models.latent_heatmap import LatentHeatmapConfig, LatentHeatmapHead
from humansd.models.ldm import SD1, sd_scheduler
from humansd.models.pocket import PICTURE_SIZE, pocket_scheduler, pocket_unet, pocket_vae
from humansd.models.precision import compiled, use_fast_attention
from humansd.models.widen import widen_conv_in
from humansd.training.guidance import Guide, HeatmapGuide, LatentGuide, ReferenceGuide, Teacher, missed_noise
from humansd.training.settings import DiffusionSettings

TOKENS, VOCABULARY = 77, 49408
PUBLISHED = "reference, nothing cached"
MEASURES = ("ldm", "reference", PUBLISHED)
SCALES = ("pocket", "sd15")


@dataclass(frozen=True)
class Parts:
    """Random weights of one scale, and one optimiser for all steps."""

    name: str
    unet: UNet2DConditionModel
    network: Callable[..., Any]  # the UNet, or compiled
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    estimator: HigherHRNet
    scheduler: DDIMScheduler
    side_px: int
    optimizer: torch.optim.Optimizer


def benchmark_losses(
    scale: str = "pocket",
    *,
    batch: int = 0,
    steps: int = 5,
    device: str = "cpu",
    accumulation: int = 1,
    checkpointing: bool = True,
    compile_unet: bool = False,
    small: bool = False,
) -> str:
    """A table of seconds a step and samples a second with each loss, against "ldm" and against "reference".

    Latents and captions are cached for all, but for the published step, which encodes picture, skeleton and caption
    each time. The kinds take turns, in another order each time, so that all see the same machine; medians.

    Args:
        scale: "pocket", or "sd15": Stable Diffusion 1.5 and, as published, HigherHRNet-W48 at 512 px; random weights,
            gradient checkpointing unless `checkpointing` is False.
        batch: samples at once; 0: 16 at pocket size, 1 at full size. accumulation: so many batches make a step.
        checkpointing: False trades memory (20 GB at full size) for time.
        compile_unet: the UNet of all kinds is compiled, as `compile=auto` trains; its first step takes minutes.
        small: a few channels only, to try the command.

    Raises:
        ValueError: an unknown scale or a count below 1.
    """
    if scale not in SCALES or min(steps, accumulation) < 1 or batch < 0:
        raise ValueError(
            f"scale {scale!r}, {steps} steps, accumulation {accumulation}, batch {batch}: needs one of {SCALES}, "
            "1 or more, 1 or more, 0 or more"
        )
    where = torch.device(device)
    torch.manual_seed(0)
    parts = _pocket(where, small) if scale == "pocket" else _sd15(where, checkpointing)
    if compile_unet:
        parts = replace(parts, network=compiled(parts.unet, where))
    batch = batch or (16 if scale == "pocket" else 1)
    kinds = _steps(parts, batch, where)
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    order = random.Random(0)
    for turn in range(steps + 1):  # the first warms up
        for name in order.sample(list(kinds), len(kinds)):  # what comes before a step may slow it down
            taken = timed_step(parts.unet, parts.optimizer, kinds[name], where, accumulation)
            if turn:
                seconds[name].append(taken)
    samples = accumulation * batch
    typical = {name: statistics.median(times) for name, times in seconds.items()}
    rows = [
        [name, f"{one:.3f}", f"{samples / one:.2f}", *(f"{typical[other] / one:.2f}" for other in MEASURES)]
        for name, one in typical.items()
    ]
    parted = f" x {accumulation}" if accumulation > 1 else ""
    how = f"{'compiled, ' if compile_unet else ''}batch {batch}{parted}, {parts.side_px} px"
    head = f"{parts.name}, {how}, {device_name(where)}; medians of {steps} steps in turn"
    titles = ["loss", "seconds", "samples/s", *(f"x {other}" for other in MEASURES)]
    return f"{head}\n\n{markdown_table(titles, rows)}"


def _pocket(device: torch.device, small: bool) -> Parts:
    changes: dict[str, Any] = {"block_out_channels": (32, 32, 32), "norm_num_groups": 8} if small else {}
    plain = pocket_unet(**changes)
    unet = widen_conv_in(plain, plain.config.in_channels)
    text = CLIPTextConfig(
        vocab_size=1500,
        hidden_size=unet.config.cross_attention_dim,
        intermediate_size=4 * unet.config.cross_attention_dim,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=0,
        eos_token_id=1,
    )
    return _parts("pocket", unet, pocket_vae(), text, CONFIGS["pocket"], pocket_scheduler(), PICTURE_SIZE, device)


def _sd15(device: torch.device, checkpointing: bool) -> Parts:
    text = CLIPTextConfig(vocab_size=VOCABULARY, max_position_embeddings=TOKENS, **SD1.text)
    unet = widen_conv_in(UNet2DConditionModel(in_channels=4, **SD1.unet), 4)
    if checkpointing:
        unet.enable_gradient_checkpointing()
    vae = AutoencoderKL(**SD1.vae)
    estimator = replace(CONFIGS["w48"], input_px=512)
    return _parts(f"{SD1.name} and HigherHRNet-W48", unet, vae, text, estimator, sd_scheduler(), 512, device)


def _parts(
    name: str,
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    text: CLIPTextConfig,
    estimator: HigherHRNetConfig,
    scheduler: DDIMScheduler,
    side_px: int,
    device: torch.device,
) -> Parts:
    unet = unet.to(device, memory_format=torch.channels_last).train()
    use_fast_attention(unet, device)
    vae = vae.to(device, memory_format=torch.channels_last).requires_grad_(False).eval()
    encoder = CLIPTextModel(text).requires_grad_(False).eval().to(device)
    network = HigherHRNet(estimator).requires_grad_(False).eval().to(device)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-6, fused=True)
    return Parts(name, unet, unet, vae, encoder, network, scheduler, side_px, optimizer)


def _steps(parts: Parts, batch: int, device: torch.device) -> dict[str, Callable[[], Tensor]]:
    """Each kind's loss of one batch of noise."""
    channels, side = parts.vae.config.latent_channels, parts.side_px // vae_factor(parts.vae)
    teacher = Teacher(parts.estimator, parts.vae)
    head = LatentHeatmapHead(LatentHeatmapConfig(channels=channels)).to(device)
    settings = DiffusionSettings()
    guides: dict[str, Guide | None] = {
        "ldm": None,
        "heatmap": HeatmapGuide(settings, teacher),
        "reference": ReferenceGuide(teacher),
        "latent-heatmap": LatentGuide(settings, head),
    }
    pictures, drawn = (torch.rand(batch, 3, parts.side_px, parts.side_px, device=device) * 2 - 1 for _ in range(2))
    ids = torch.randint(parts.text_encoder.config.vocab_size, (batch, TOKENS), device=device)
    latents, skeletons = (torch.randn(batch, channels, side, side, device=device) for _ in range(2))
    mask = 1 + torch.rand(batch, 1, side, side, device=device)
    with torch.no_grad():
        text = parts.text_encoder(ids)[0]

    def cached(guide: Guide | None, weight: Tensor | None = None) -> Callable[[], Tensor]:
        return lambda: _loss(parts, latents, skeletons, text, guide, weight)

    def published() -> Tensor:
        with torch.no_grad():
            both = encode_pictures(parts.vae, pictures), encode_pictures(parts.vae, drawn)
            words = parts.text_encoder(ids)[0]
        return _loss(parts, *both, words, guides["reference"])

    kinds = {name: cached(guide) for name, guide in guides.items()}
    return {**kinds, "skeleton-mask": cached(None, mask), PUBLISHED: published}


def _loss(
    parts: Parts, latents: Tensor, skeletons: Tensor, text: Tensor, guide: Guide | None, weight: Tensor | None = None
) -> Tensor:
    noise, timesteps = torch.randn_like(latents), torch.randint(1000, (len(latents),), device=latents.device)
    prediction, target = denoise(parts.network, parts.scheduler, latents, noise, timesteps, text, skeletons)
    if guide is not None:
        weight = guide.weight(missed_noise(parts.scheduler, prediction.detach(), target, timesteps))
    return ldm(prediction, target, weight).mean()
