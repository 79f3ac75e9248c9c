"""One HumanSD training step at full size with random weights: time and memory, with and without the caches, against a
step as diffusers' InstructPix2Pix example makes it, from the same modules in the same run.

The step is the trainer's own (`training.step`, `training.denoising`); only what is fed to it is made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from humansd.checkpoints.original_format import SD1, ModelFamily, sd_scheduler
from humansd.core.markdown import markdown_table
from humansd.evaluation.timing import device_name, forget_peak, peak_memory, seconds_of
from humansd.methods.protocol import Networks
from humansd.models.codec import encode_images
from humansd.models.precision import fast_bf16
from humansd.models.widen import widen_conv_in
from humansd.training.counting import activation_bytes
from humansd.training.denoising import DenoisingLoss
from humansd.training.devices import make_accelerator
from humansd.training.memory import weight_bytes
from humansd.training.settings import DiffusionSettings
from humansd.training.step import Loss, TrainingStep
from humansd.training.tasks.diffusion_shapes import family_shapes

TOKENS = 77
VOCABULARY = 49408
Batch = dict[str, Any]


@dataclass(frozen=True)
class Modules:
    """Random weights of a Stable Diffusion: unet, widened for HumanSD, vae and text_encoder."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel


def benchmark_training(
    *, layout: ModelFamily = SD1, batch: int = 1, side_px: int = 512, steps: int = 2, device: str = "cpu"
) -> str:
    """A table of seconds a step, samples a second, the ratio to the example's step, and peak memory.

    Gradient checkpointing, no averages, AdamW; bf16 arithmetic where the device is fast at it.

    Raises:
        ValueError: a count below 1, or a device that is not there.
    """
    for name, value in (("batch", batch), ("steps", steps)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be 1 or more")
    settings = DiffusionSettings(
        method="humansd",
        batch_size=batch,
        learning_rate=1e-6,
        ema_decay=0.0,
        min_snr_gamma=0.0,
        gradient_checkpointing=True,
        device=device,
        report_to="none",
    )
    with TemporaryDirectory() as folder:
        accelerator = make_accelerator(settings, Path(folder))
    where = accelerator.device
    modules = _modules(layout)
    loss = _OneOf(DenoisingLoss(settings, Networks(modules.unet, modules.vae), sd_scheduler()))
    loss.ours.prepare(where)
    modules.vae.to(where)
    modules.text_encoder.to(where)
    kinds: dict[str, tuple[Loss, Callable[[], Any]]] = {
        "diffusers' example": (lambda inputs: (_example_loss(modules, inputs), {}), _inputs(modules, batch, side_px)),
        "ours, nothing cached": (loss.ours, _encoded_in_the_step(modules, batch, side_px)),
        "ours, latents and captions cached": (loss.ours, _cached(modules, batch, side_px)),
    }
    step = TrainingStep(modules.unet, loss, settings, accelerator)
    rows, first = [], 0.0
    for name, (of_kind, batch_of) in kinds.items():
        loss.now = of_kind
        whole = _whole_step(step, batch_of)
        seconds_of(whole, where)  # warm-up; the first one also makes the optimiser's state
        forget_peak(where)
        seconds = min(seconds_of(whole, where) for _ in range(steps))
        first = first or seconds
        memory = f"{peak_memory(where) / 1000:.1f}"
        rows.append([name, f"{seconds:.2f}", f"{batch / seconds:.3f}", f"{first / seconds:.2f}", memory])
    parameters = sum(p.numel() for p in modules.unet.parameters()) / 1e6
    head = f"{layout.name}, UNet of {parameters:.0f} M parameters, batch {batch}, {side_px} px, {device_name(where)}"
    titles = ["step", "seconds", "samples/s", "against the example", "peak GB"]
    return f"{head}\n\n{markdown_table(titles, rows)}"


class _OneOf:
    """The loss of the kind whose turn it is, for one optimiser."""

    def __init__(self, ours: DenoisingLoss) -> None:
        self.ours = ours
        self.now: Loss = ours

    def __call__(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        return self.now(batch)


def _whole_step(step: TrainingStep, batch_of: Callable[[], Any]) -> Callable[[], None]:
    def run() -> None:
        step.gradients(batch_of() for _ in range(step.settings.gradient_accumulation_steps))
        step.clip()
        step.update(1)

    return run


def _modules(layout: ModelFamily) -> Modules:
    torch.manual_seed(0)
    text = CLIPTextConfig(vocab_size=VOCABULARY, max_position_embeddings=TOKENS, **layout.text)
    unet = widen_conv_in(UNet2DConditionModel(in_channels=4, **layout.unet), 4)
    vae = AutoencoderKL(**layout.vae).requires_grad_(False).eval()
    return Modules(unet, vae, CLIPTextModel(text).requires_grad_(False).eval())


def denoising_batch(latents: Tensor, skeletons: Tensor, text: Tensor, maps: Tensor | None = None) -> Batch:
    """A batch of `training.denoising` of what is encoded, with noise and timesteps of their own."""
    count = len(latents)
    return {
        "latents": latents,
        "pose": skeletons,
        "posed": torch.ones(count, dtype=torch.bool, device=latents.device),
        "text": text,
        "noise": torch.randn_like(latents),
        "timesteps": torch.randint(1000, (count,), device=latents.device),
        "weights": torch.ones(count, device=latents.device),
        "maps": maps,
        "cover": None,
        "seeds": range(count),
    }


def _cached(modules: Modules, batch: int, side_px: int) -> Callable[[], Batch]:
    encoded = _encoded(modules, _inputs(modules, batch, side_px)())
    return lambda: denoising_batch(*encoded)


def _encoded_in_the_step(modules: Modules, batch: int, side_px: int) -> Callable[[], Batch]:
    inputs = _inputs(modules, batch, side_px)()
    half = fast_bf16(modules.vae.device)

    def encode() -> Batch:
        with torch.autocast(modules.vae.device.type, torch.bfloat16, enabled=half):
            return denoising_batch(*_encoded(modules, inputs))

    return encode


def _example_loss(modules: Modules, inputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Sampled image latents, the condition's mode, both encoded in each step, conditions dropped at random."""
    scheduler, (images, skeletons, ids) = sd_scheduler(), inputs
    batch, nothing = len(images), torch.zeros_like(ids)
    latents = modules.vae.encode(images).latent_dist.sample() * modules.vae.config.scaling_factor
    noise, timesteps = torch.randn_like(latents), torch.randint(1000, (batch,), device=latents.device)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    text, empty = modules.text_encoder(ids)[0], modules.text_encoder(nothing)[0]
    condition = modules.vae.encode(skeletons).latent_dist.mode()
    chance = torch.rand(batch, device=latents.device)
    text = torch.where((chance < 0.1).view(-1, 1, 1), empty, text)
    condition = condition * (~((chance >= 0.05) & (chance < 0.15))).view(-1, 1, 1, 1)
    prediction = modules.unet(torch.cat([noisy, condition], dim=1), timesteps, text).sample
    return torch.nn.functional.mse_loss(prediction.float(), noise.float())


def _inputs(modules: Modules, batch: int, side_px: int) -> Callable[[], tuple[Tensor, Tensor, Tensor]]:
    device = modules.unet.device
    images, skeletons = (torch.rand(batch, 3, side_px, side_px, device=device) * 2 - 1 for _ in range(2))
    ids = torch.randint(VOCABULARY, (batch, TOKENS), device=device)
    return lambda: (images, skeletons, ids)


@torch.no_grad()
def _encoded(modules: Modules, inputs: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    images, skeletons, ids = inputs
    return encode_images(modules.vae, images), encode_images(modules.vae, skeletons), modules.text_encoder(ids)[0]


def training_memory(
    layout: ModelFamily = SD1, *, ema: bool = True, batch: int = 1, side_px: int = 512, device: str = "cpu"
) -> str:
    """What a HumanSD run of this family takes with gradient checkpointing, in words; estimated, nothing is run."""
    shapes = family_shapes(layout, side_px)
    count = sum(p.numel() for p in shapes.learns.parameters())
    sizes = {name: size for name, size in weight_bytes(count, ema=ema).items() if size}
    parts = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in sizes.items())
    kind = torch.device(device).type
    step = sum(activation_bytes(shapes, batch, kind, fast_bf16(device), checkpointing=True).values())
    total = sum(sizes.values())
    return (
        f"{count / 1e6:.0f} M parameters: {parts}, together {total / 1e9:.1f} GB; "
        f"activations of {batch} at {side_px} px {step / 1e9:.1f} GB"
    )
