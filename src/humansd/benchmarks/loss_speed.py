"""One training step with each loss, side by side in one run: samples a second, pairwise ratios.

The step is the trainer's own (`training.step`, `training.denoising`); only what is fed to it is made up."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from humansd.benchmarks.training_speed import Batch, denoising_batch
from humansd.checkpoints.original_format import SD1, sd_scheduler
from humansd.core.markdown import markdown_table
from humansd.evaluation.timing import device_name, seconds_of
from humansd.methods.protocol import Networks
from humansd.models.codec import encode_images, vae_scale_factor
from humansd.models.higherhrnet import CONFIGS, HigherHRNet, HigherHRNetConfig
from humansd.models.latent_heatmap import LatentHeatmapConfig, LatentHeatmapHead
from humansd.models.pocket import IMAGE_SIZE, pocket_scheduler, pocket_unet, pocket_vae
from humansd.models.precision import fast_bf16
from humansd.models.widen import widen_conv_in
from humansd.training.denoising import DenoisingLoss
from humansd.training.devices import make_accelerator
from humansd.training.heatmap_weighting import (
    HeatmapWeighter,
    LatentHeatmapWeighter,
    LossWeighter,
    ReferenceWeighter,
    Teacher,
)
from humansd.training.settings import DiffusionSettings
from humansd.training.step import TrainingStep

TOKENS, VOCABULARY = 77, 49408
PUBLISHED = "reference, nothing cached"
MEASURES = ("ldm", "reference", PUBLISHED)
SCALES = ("pocket", "sd15")


@dataclass(frozen=True)
class Parts:
    """Random weights of one scale."""

    name: str  # of the scale, in words
    unet: UNet2DConditionModel  # widened for HumanSD
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    estimator: HigherHRNet  # that the losses ask
    scheduler: DDIMScheduler  # the noise schedule
    side_px: int  # of the images


def benchmark_losses(
    scale: str = "pocket",
    *,
    batch: int = 0,
    steps: int = 5,
    device: str = "cpu",
    gradient_accumulation_steps: int = 1,
    checkpointing: bool = True,
    compile_unet: bool = False,
    small: bool = False,
) -> str:
    """A table of seconds a step and samples a second with each loss, against "ldm" and against "reference".

    Latents and captions are cached for all, but for the published step, which encodes image, skeleton and caption
    each time. The kinds take turns, in another order each time, so that all see the same machine; medians.

    Args:
        scale: "pocket", or "sd15": Stable Diffusion 1.5 and, as published, HigherHRNet-W48 at 512 px; random weights,
            gradient checkpointing unless `checkpointing` is False.
        batch: samples at once; 0: 16 at pocket size, 1 at full size.
        gradient_accumulation_steps: so many batches make a step.
        checkpointing: False trades memory (20 GB at full size) for time.
        compile_unet: the UNet of all kinds is compiled, as `compile=auto` trains; its first step takes minutes.
        small: a few channels only, to try the command.

    Raises:
        ValueError: an unknown scale or a count below 1.
    """
    if scale not in SCALES or min(steps, gradient_accumulation_steps) < 1 or batch < 0:
        raise ValueError(
            f"scale {scale!r}, {steps} steps, gradient_accumulation_steps {gradient_accumulation_steps}, "
            f"batch {batch}: needs one of {SCALES}, 1 or more, 1 or more, 0 or more"
        )
    torch.manual_seed(0)
    parts = _pocket(small) if scale == "pocket" else _sd15()
    batch = batch or (16 if scale == "pocket" else 1)
    settings = DiffusionSettings(
        method="humansd",
        batch_size=batch * gradient_accumulation_steps,
        gradient_accumulation_steps=gradient_accumulation_steps,
        learning_rate=1e-6,
        ema_decay=0.0,
        min_snr_gamma=0.0,
        gradient_checkpointing=checkpointing and scale == "sd15",
        compile="auto" if compile_unet else "no",
        device=torch.device(device).type,
        report_to="none",
    )
    seconds, where = _measured(parts, settings, batch, steps)
    parted = f" x {gradient_accumulation_steps}" if gradient_accumulation_steps > 1 else ""
    how = f"{'compiled, ' if compile_unet else ''}batch {batch}{parted}, {parts.side_px} px"
    head = f"{parts.name}, {how}, {device_name(where)}; medians of {steps} steps in turn"
    return f"{head}\n\n{_table(seconds, settings.batch_size)}"


def _measured(
    parts: Parts, settings: DiffusionSettings, batch: int, steps: int
) -> tuple[dict[str, list[float]], torch.device]:
    """Seconds of each step with each loss, and where."""
    with TemporaryDirectory() as folder:
        accelerator = make_accelerator(settings, Path(folder))
    where = accelerator.device
    kinds = _kinds(parts, settings, batch, where)
    loss = DenoisingLoss(settings, Networks(parts.unet, parts.vae), parts.scheduler)
    loss.prepare(where)
    step = TrainingStep(parts.unet, loss, settings, accelerator)
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    order = random.Random(0)
    for turn in range(steps + 1):  # the first warms up
        for name in order.sample(list(kinds), len(kinds)):  # what comes before a step may slow it down
            loss.weighter, batch_of = kinds[name]
            taken = seconds_of(lambda made=batch_of: _whole_step(step, made), where)  # type: ignore[misc]
            if turn:
                seconds[name].append(taken)
    return seconds, where


def _table(seconds: dict[str, list[float]], samples: int) -> str:
    typical = {name: statistics.median(times) for name, times in seconds.items()}
    rows = []
    for name, one in typical.items():
        shares = [f"{typical[other] / one:.2f}" for other in MEASURES]
        rows.append([name, f"{one:.3f}", f"{samples / one:.2f}", *shares])
    return markdown_table(["loss", "seconds", "samples/s", *(f"x {other}" for other in MEASURES)], rows)


def _pocket(small: bool) -> Parts:
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
    return _parts("pocket", unet, pocket_vae(), text, CONFIGS["pocket"], pocket_scheduler(), IMAGE_SIZE)


def _sd15() -> Parts:
    text = CLIPTextConfig(vocab_size=VOCABULARY, max_position_embeddings=TOKENS, **SD1.text)
    unet = widen_conv_in(UNet2DConditionModel(in_channels=4, **SD1.unet), 4)
    estimator = replace(CONFIGS["w48"], input_px=512)
    name = f"{SD1.name} and HigherHRNet-W48"
    return _parts(name, unet, AutoencoderKL(**SD1.vae), text, estimator, sd_scheduler(), 512)


def _parts(
    name: str,
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    text: CLIPTextConfig,
    estimator: HigherHRNetConfig,
    scheduler: DDIMScheduler,
    side_px: int,
) -> Parts:
    vae = vae.requires_grad_(False).eval()
    encoder = CLIPTextModel(text).requires_grad_(False).eval()
    return Parts(name, unet, vae, encoder, HigherHRNet(estimator), scheduler, side_px)


def _whole_step(step: TrainingStep, batch_of: Callable[[], Batch]) -> None:
    step.gradients(batch_of() for _ in range(step.settings.gradient_accumulation_steps))
    step.clip()
    step.update(1)


def _kinds(
    parts: Parts, settings: DiffusionSettings, batch: int, device: torch.device
) -> dict[str, tuple[LossWeighter | None, Callable[[], Batch]]]:
    """What guides each kind, and what makes its batches of noise."""
    channels, side = parts.vae.config.latent_channels, parts.side_px // vae_scale_factor(parts.vae)
    parts.vae.to(device, memory_format=torch.channels_last)
    parts.text_encoder.to(device)
    teacher = Teacher(parts.estimator, parts.vae)
    guides: dict[str, LossWeighter | None] = {
        "ldm": None,
        "heatmap": HeatmapWeighter(settings, teacher),
        "reference": ReferenceWeighter(teacher),
        "latent-heatmap": LatentHeatmapWeighter(settings, LatentHeatmapHead(LatentHeatmapConfig(channels=channels))),
    }
    for guide in guides.values():
        if guide is not None:
            guide.to(device)
    images, drawn = (torch.rand(batch, 3, parts.side_px, parts.side_px, device=device) * 2 - 1 for _ in range(2))
    ids = torch.randint(parts.text_encoder.config.vocab_size, (batch, TOKENS), device=device)
    latents, skeletons = (torch.randn(batch, channels, side, side, device=device) for _ in range(2))
    mask = 1 + torch.rand(batch, 1, side, side, device=device)
    with torch.no_grad():
        text = parts.text_encoder(ids)[0]

    def cached(maps: Tensor | None = None) -> Callable[[], Batch]:
        return lambda: denoising_batch(latents, skeletons, text, maps)

    @torch.no_grad()
    def encoded() -> Batch:
        with torch.autocast(device.type, torch.bfloat16, enabled=fast_bf16(device)):
            both = encode_images(parts.vae, images), encode_images(parts.vae, drawn)
            return denoising_batch(*both, parts.text_encoder(ids)[0])

    kinds = {name: (guide, cached()) for name, guide in guides.items()}
    return {**kinds, "skeleton-mask": (None, cached(mask)), PUBLISHED: (guides["reference"], encoded)}
