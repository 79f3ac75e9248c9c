"""The heatmap-guided denoising loss (HumanSD sec. 3.3, Eq. 6): an error counts more where it looks like a person.

The steps of the paper, each a pure function: what noise was missed (`noise_difference`), decoded and seen by a pose
estimator elsewhere, becomes one map over the latent (`heatmap_weight`), which multiplies the squared error. Nothing
here carries a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Reduction = Literal["max", "sum"]


@torch.no_grad()
def noise_difference(
    prediction: Tensor, target: Tensor, alphas_cumprod: Tensor, timesteps: Tensor, prediction_type: str
) -> Tensor:
    """Predicted minus true noise, (n, c, h, w), whatever the network predicts.

    For velocity v = sqrt(abar) eps - sqrt(1 - abar) x0 of one noisy latent, eps = sqrt(abar) v + sqrt(1 - abar) x_t, so
    the difference is sqrt(abar) times that of the velocities.

    Raises:
        ValueError: another prediction type than epsilon or v_prediction.
    """
    difference = prediction.float() - target.float()
    if prediction_type == "epsilon":
        return difference
    if prediction_type == "v_prediction":
        return alphas_cumprod.to(timesteps.device)[timesteps].float().sqrt().view(-1, 1, 1, 1) * difference
    raise ValueError(f"prediction_type = {prediction_type!r}: the loss knows epsilon and v_prediction")


@torch.no_grad()
def heatmap_weight(
    heatmaps: Tensor,
    size: tuple[int, int],
    *,
    strength: float = 1.0,
    threshold: float = 0.05,
    reduction: Reduction = "max",
) -> Tensor:
    """w = 1 + strength * M, (n, 1, height, width); M in 0..1 joins the joints' heatmaps above the threshold.

    Args:
        heatmaps: (n, joints, h, w), about 0..1, of the decoded noise difference.
        size: (height, width) of the latent; M is averaged over areas.
        reduction: the largest over the joints, or their sum, clipped at 1.

    Raises:
        ValueError: a strength below 0, or another reduction.
    """
    if strength < 0 or reduction not in ("max", "sum"):
        raise ValueError(f"strength {strength} and reduction {reduction!r}: needs 0 or more, and max or sum")
    heat = heatmaps.float()
    heat = torch.where(heat > threshold, heat, torch.zeros_like(heat)).clamp(0, 1)
    joined = heat.amax(dim=1, keepdim=True) if reduction == "max" else heat.sum(dim=1, keepdim=True).clamp(max=1)
    return 1 + strength * F.interpolate(joined, size=size, mode="area")


@torch.no_grad()
def reference_weight(
    quarter: Tensor,
    half: Tensor,
    size: tuple[int, int],
    encode: Callable[[Tensor], Tensor],
    *,
    threshold: float = 0.05,
    strength: float = 0.1,
) -> Tensor:
    """The weight (n, c, h, w) of the published code, defects included: 1 + 0.1 Z, only to compare.

    The coarser heatmaps go up to the finer grid bilinearly with aligned corners, and both are averaged; a joint's map
    is 0 where that is above the threshold and 1 elsewhere (inverted); the joints are summed (0 to 17, not -1 to 1),
    enlarged to the image by bicubic interpolation without aligned corners, and put through the VAE: Z is a latent,
    not a mask.

    Args:
        quarter, half: (n, joints, ., .) heatmaps of both resolutions.
        size: (height, width) of the image.
        encode: (n, 3, height, width) images -> scaled latents, sampled from the VAE's posterior.
    """
    finer = (half.shape[2], half.shape[3])
    both = (F.interpolate(quarter.float(), size=finer, mode="bilinear", align_corners=True) + half.float()) / 2
    counted = torch.where(both > threshold, 0.0, 1.0).sum(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    return 1 + strength * encode(F.interpolate(counted, size=size, mode="bicubic", align_corners=False))
