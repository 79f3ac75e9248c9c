"""The plain latent-diffusion loss and its weights over timesteps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def ldm(prediction: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Squared denoising error per sample (HumanSD Eq. 1; with `weight` = w the form of Eq. 6, w = W_a^2).

    Args:
        prediction, target: (n, c, h, w), noise or velocity, computed in fp32.
        weight: (n, 1, h, w) or None; multiplies the squared error of a latent position. It carries no gradient.

    Returns: (n,) mean over channels and positions.
    """
    error = (prediction.float() - target.float()).square()
    if weight is not None:
        error = error * weight.detach()
    return error.mean(dim=(1, 2, 3))


def denoise(
    network: Callable[..., Any],
    scheduler: Any,
    latents: torch.Tensor,
    noise: torch.Tensor,
    timesteps: torch.Tensor,
    inputs: Callable[[torch.Tensor], dict[str, Any]],
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the network predicts for noisy latents, and what it should predict, each (n, c, h, w).

    Args:
        network: a UNet, or compiled. scheduler: with the noise schedule.
        latents, noise: (n, c, h, w). timesteps: (n,).
        inputs: noisy latents -> the arguments of the network (`methods.protocol.Method.unet_inputs`).
    """
    noisy = scheduler.add_noise(latents, noise, timesteps)
    given = inputs(noisy)
    sample = given.pop("sample").contiguous(memory_format=torch.channels_last)
    prediction = network(sample, given.pop("timestep"), **given).sample
    return prediction, denoising_target(scheduler, latents, noise, timesteps)


def denoising_target(
    scheduler: Any, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """What the network has to predict, (n, c, h, w): the noise, or the velocity (Salimans and Ho 2022, sec. 4).

    Raises:
        ValueError: the scheduler's prediction type is another.
    """
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        velocity: torch.Tensor = scheduler.get_velocity(latents, noise, timesteps)
        return velocity
    raise ValueError(f"prediction_type = {kind!r}: training knows epsilon and v_prediction")


def signal_to_noise(alphas_cumprod: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """abar_t / (1 - abar_t) of each timestep, (n,); 0 at the last one of a schedule with zero terminal SNR."""
    alpha = alphas_cumprod.to(timesteps.device)[timesteps].float()
    return alpha / (1 - alpha)


def min_snr_weight(snr: torch.Tensor, gamma: float, prediction_type: str) -> torch.Tensor:
    """Weight of a timestep, (n,): min(SNR, gamma) / SNR for noise, / (SNR + 1) for velocity prediction.

    Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy", sec. 3.4. At SNR = 0 its limit: 1
    for noise, 0 for velocity.
    """
    if prediction_type == "epsilon":
        return (gamma / snr.clamp(min=torch.finfo(snr.dtype).tiny)).clamp(max=1)
    if prediction_type == "v_prediction":
        return snr.clamp(max=gamma) / (snr + 1)
    raise ValueError(f"prediction_type = {prediction_type!r}: min-SNR weights exist for epsilon, v_prediction")


def inside_and_outside(prediction: torch.Tensor, target: torch.Tensor, cover: torch.Tensor) -> dict[str, float]:
    """The mean squared error (HumanSD Eq. 1) of positions inside and outside people, "inside" and "outside"; one that
    has no position is left out.

    cover: (n, 1, h, w) in 0..1, the share of a position that people cover.
    """
    error = (prediction.float() - target.float()).square().mean(dim=1, keepdim=True)
    parts = {"inside": cover, "outside": 1 - cover}
    return {name: ((error * share).sum() / share.sum()).item() for name, share in parts.items() if share.any()}
