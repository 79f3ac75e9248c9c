"""One HumanSD training step at full size with random weights: time and memory, with and without the caches, against a
step as diffusers' InstructPix2Pix example makes it, from the same modules in the same run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from humansd.evaluation.tables import markdown_table
from humansd.evaluation.timing import device_name, forget_peak, peak_memory, timed_step
from humansd.losses.denoising import denoising_target, ldm
from humansd.models.codec import encode_pictures
from humansd.models.ldm import SD1, Layout, sd_scheduler
from humansd.models.precision import fast_bf16, use_fast_attention
from humansd.models.widen import widen_conv_in
from humansd.training.memory import activation_bytes, layout_shapes, weight_bytes

TOKENS = 77
VOCABULARY = 49408


@dataclass(frozen=True)
class Modules:
    """Random weights of a Stable Diffusion with a widened UNet, and one optimiser for all steps."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    optimizer: torch.optim.Optimizer


def benchmark_training(
    *, layout: Layout = SD1, batch: int = 1, side_px: int = 512, steps: int = 2, device: str = "cpu"
) -> str:
    """A table of seconds a step, samples a second, the ratio to the example's step, and peak memory.

    Gradient checkpointing, no averages, AdamW; bf16 arithmetic where the device is fast at it.

    Raises:
        ValueError: a count below 1.
    """
    for name, value in (("batch", batch), ("steps", steps)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be 1 or more")
    where = torch.device(device)
    modules = _modules(layout, where)
    kinds: dict[str, Callable[[], Tensor]] = {
        "diffusers' example": _example_step(modules, batch, side_px),
        "ours, nothing cached": _our_step(modules, batch, side_px, cached=False),
        "ours, latents and captions cached": _our_step(modules, batch, side_px, cached=True),
    }
    rows, first = [], 0.0
    for name, loss in kinds.items():
        step = partial(timed_step, modules.unet, modules.optimizer, loss, where)
        step()  # warm-up; the first one also makes the optimiser's state
        forget_peak(where)
        seconds = min(step() for _ in range(steps))
        first = first or seconds
        memory = f"{peak_memory(where) / 1000:.1f}"
        rows.append([name, f"{seconds:.2f}", f"{batch / seconds:.3f}", f"{first / seconds:.2f}", memory])
    parameters = sum(p.numel() for p in modules.unet.parameters()) / 1e6
    head = f"{layout.name}, UNet of {parameters:.0f} M parameters, batch {batch}, {side_px} px, {device_name(where)}"
    titles = ["step", "seconds", "samples/s", "against the example", "peak GB"]
    return f"{head}\n\n{markdown_table(titles, rows)}"


def _modules(layout: Layout, device: torch.device) -> Modules:
    torch.manual_seed(0)
    text = CLIPTextConfig(vocab_size=VOCABULARY, max_position_embeddings=TOKENS, **layout.text)
    unet = widen_conv_in(UNet2DConditionModel(in_channels=4, **layout.unet), 4).to(device)
    unet.enable_gradient_checkpointing()
    use_fast_attention(unet, device)
    vae = AutoencoderKL(**layout.vae).requires_grad_(False).eval().to(device)
    encoder = CLIPTextModel(text).requires_grad_(False).eval().to(device)
    return Modules(unet.train(), vae, encoder, torch.optim.AdamW(unet.parameters(), lr=1e-6, fused=True))


def _our_step(modules: Modules, batch: int, side_px: int, *, cached: bool) -> Callable[[], Tensor]:
    """The loss of `training.diffusion`, with latents and captions given or encoded in the step."""
    scheduler, inputs = sd_scheduler(), _inputs(modules, batch, side_px)
    with torch.no_grad():
        given = _encoded(modules, inputs)

    def loss() -> Tensor:
        with torch.no_grad():
            latents, skeletons, text = given if cached else _encoded(modules, inputs)
        noise, timesteps = torch.randn_like(latents), torch.randint(1000, (batch,), device=latents.device)
        noisy = scheduler.add_noise(latents, noise, timesteps)
        prediction = modules.unet(torch.cat([noisy, skeletons], dim=1), timesteps, text).sample
        return ldm(prediction, denoising_target(scheduler, latents, noise, timesteps)).mean()

    return loss


def _example_step(modules: Modules, batch: int, side_px: int) -> Callable[[], Tensor]:
    """Sampled picture latents, the condition's mode, both encoded in each step, conditions dropped at random."""
    scheduler, (pictures, skeletons, ids) = sd_scheduler(), _inputs(modules, batch, side_px)
    nothing = torch.zeros_like(ids)

    def loss() -> Tensor:
        latents = modules.vae.encode(pictures).latent_dist.sample() * modules.vae.config.scaling_factor
        noise, timesteps = torch.randn_like(latents), torch.randint(1000, (batch,), device=latents.device)
        noisy = scheduler.add_noise(latents, noise, timesteps)
        text, empty = modules.text_encoder(ids)[0], modules.text_encoder(nothing)[0]
        condition = modules.vae.encode(skeletons).latent_dist.mode()
        chance = torch.rand(batch, device=latents.device)
        text = torch.where((chance < 0.1).view(-1, 1, 1), empty, text)
        condition = condition * (~((chance >= 0.05) & (chance < 0.15))).view(-1, 1, 1, 1)
        prediction = modules.unet(torch.cat([noisy, condition], dim=1), timesteps, text).sample
        return torch.nn.functional.mse_loss(prediction.float(), noise.float())

    return loss


def _inputs(modules: Modules, batch: int, side_px: int) -> tuple[Tensor, Tensor, Tensor]:
    device = modules.unet.device
    pictures, skeletons = (torch.rand(batch, 3, side_px, side_px, device=device) * 2 - 1 for _ in range(2))
    return pictures, skeletons, torch.randint(VOCABULARY, (batch, TOKENS), device=device)


def _encoded(modules: Modules, inputs: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    pictures, skeletons, ids = inputs
    return encode_pictures(modules.vae, pictures), encode_pictures(modules.vae, skeletons), modules.text_encoder(ids)[0]


def training_memory(
    layout: Layout = SD1, *, averages: bool = True, batch: int = 1, side_px: int = 512, device: str = "cpu"
) -> str:
    """What a HumanSD run of this family takes with gradient checkpointing, in words; estimated, nothing is run."""
    shapes = layout_shapes(layout, side_px)
    count = sum(p.numel() for p in shapes.learns.parameters())
    sizes = {name: size for name, size in weight_bytes(count, averages=averages).items() if size}
    parts = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in sizes.items())
    kind = torch.device(device).type
    step = sum(activation_bytes(shapes, batch, kind, fast_bf16(device), checkpointing=True).values())
    total = sum(sizes.values())
    return (
        f"{count / 1e6:.0f} M parameters: {parts}, together {total / 1e9:.1f} GB; "
        f"activations of {batch} at {side_px} px {step / 1e9:.1f} GB"
    )
