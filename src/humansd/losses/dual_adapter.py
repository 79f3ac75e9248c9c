"""The formulas of the primary/secondary adapter method (CN117392675A), one function each, pure.

Route 1 is the frozen primary adapter with pose A, route 2 the secondary adapter with pose B; both start from one noise
and read one text. At each of T steps the pose seen in route 2's image, b, is drawn to B by Q and held to a, the pose
seen in route 1's. What a pose is, and so the squared distance of two, belongs to the small model that sees it: key
points (`points_distance`) or a person mask (`masks_distance`). Numbers in brackets are the equations of the
description. Where its text cannot be meant as it stands, the literal form is a named reading beside the sensible one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

Constancy = Literal["literal", "squared"]
Total = Literal["mean", "sum"]
Strength = Literal["mean", "timed"]
Sigma = Literal["ddim", "literal"]
# (first, second, weights), each (n, ...), -> the squared distance (n,) of what a small model sees in two images
Distance: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
LEAST_NOISE = 1e-4  # 1 - alpha is never taken to be less: the literal sequence ends in 1 - alpha = 0
CORNER_PX = (-0.5, -0.5)  # where an image begins, px: the centre of its first pixel is 0
LITERAL_ABARS = (0.00002, 1.0)  # the first and the last of the description's arithmetic sequence


def normalized_points(points: Tensor, size: tuple[int, int], origin: tuple[float, float] = CORNER_PX) -> Tensor:
    """(2) to (4): g_b(y) = diag(1/w, 1/h)(y - b_c), a row a point.

    Args:
        points: (..., 2) px. size: (width, height) px of the image. origin: b_c, which cancels in differences.

    Returns: (..., 2); 0 to 1 inside the image.
    """
    return (points - points.new_tensor(origin)) / points.new_tensor(size)


def points_distance(first: Tensor, second: Tensor, weights: Tensor) -> Tensor:
    """||g(y_1) - g(y_2)||^2, the sum over the points, (n,).

    first, second: (n, k, 2) normalised. weights: (n, k), 0..1, how sure a point is; ones for the plain norm.
    """
    return ((first - second).square().sum(dim=2) * weights).sum(dim=1)


def masks_distance(first: Tensor, second: Tensor, weights: Tensor) -> Tensor:
    """||m_1 - m_2||^2 of two person masks, the mean over the pixels, (n,): the L2 of a segmentation.

    first, second: (n, h, w), 0..1, how likely a pixel shows a person. weights: (n, h, w) or (n, 1, 1), 0..1, how much a
    pixel counts; ones for the plain norm.
    """
    return ((first - second).square() * weights).mean(dim=(1, 2))


def clean_latents(noisy: Tensor, noise: Tensor, abar: Tensor) -> Tensor:
    """(10), (41), (42): x0 = (x_t - sqrt(1 - abar_t) eps) / sqrt(abar_t), (n, c, h, w). abar: a number or (n, 1, 1, 1).

    The text decodes x_t itself, and writes eps where x_t belongs; what is decoded here is x0.
    """
    return (noisy - (1 - abar).sqrt() * noise) / abar.sqrt()


def ddim_step(clean: Tensor, noise: Tensor, abar: Tensor, abar_next: Tensor, reading: Sigma = "ddim") -> Tensor:
    """(9), (11): x_{t-1} = sqrt(abar_{t-1}) x0 + sqrt(1 - abar_{t-1}) eps, DDIM with eta 0, (n, c, h, w).

    reading: "literal" takes sqrt(1 - abar_t) before eps, as printed; the noise then never leaves.
    """
    left = abar_next if _known(reading, Sigma) == "ddim" else abar
    return abar_next.sqrt() * clean + (1 - left).sqrt() * noise


def primary_loss(noise: Tensor, predicted: Tensor, alpha: Tensor, abar: Tensor) -> Tensor:
    """(12), (13): w(t) ||eps - eps_theta||^2 with w = (1 - alpha_t) / (2 alpha_t (1 - abar_t)), (n,).

    What the primary adapter learnt by; a sum over the latent (n, c, h, w). alpha: of the step from t to t - 1.
    """
    weight = (1 - alpha) / (2 * alpha * (1 - abar))
    return weight * (noise.float() - predicted.float()).square().sum(dim=(1, 2, 3))


def diffusion_distance(first: Tensor, second: Tensor, abar: Tensor) -> Tensor:
    """(18), one step of L_diffusion: ||eps_1 - eps_2||^2 / (1 - abar_t) of the two routes, (n,); its mean over t is
    L_diffusion."""
    return (first.float() - second.float()).square().sum(dim=(1, 2, 3)) / (1 - abar)


def constancy(seen: Tensor, wanted: Tensor, reading: Constancy = "literal") -> Tensor:
    """(20), (21), L_const: how far the pose of route 2 is from that of route 1, (n,).

    seen: ||b - a||^2. wanted: ||B - A||^2; both by the small model's distance. reading: "literal" is ||b - a||^2, which
    asks for no distance at all and so pulls against the first term; "squared" is (||b - a||^2 - ||B - A||^2)^2, which
    is 0 where the poses differ as they should, as (19) has it.
    """
    return seen if _known(reading, Constancy) == "literal" else (seen - wanted).square()


def step_loss(to_target: Tensor, held: Tensor, strength: float | Tensor) -> Tensor:
    """Step 8: L_t = Q ||g_b(Psi(Z_B,t)) - g_b(B)||^2 + L_const, (n,)."""
    return strength * to_target + held


def total_loss(steps: Tensor, reading: Total = "mean") -> Tensor:
    """Step 8, over the T steps (T, n) -> (n,). reading: "sum" as printed; of the "mean", which differs by a factor
    alone, the limit is that of `theoretical_value`."""
    return steps.mean(dim=0) if _known(reading, Total) == "mean" else steps.sum(dim=0)


def strength_of(alphas: Tensor, reading: Strength = "mean") -> float:
    """(37), Q = (2 / T) sum alpha_t / (1 - alpha_t), with 1 - alpha_t at least `LEAST_NOISE`.

    alphas: (T,) of the steps, t = 1 the one with the least noise. reading: "timed" has the factor t of the printed sum
    in it.
    """
    ratio = alphas.double() / (1 - alphas.double()).clamp(min=LEAST_NOISE)
    if _known(reading, Strength) == "timed":
        ratio = ratio * torch.arange(1, len(alphas) + 1, dtype=torch.float64, device=alphas.device)
    return float(2 * ratio.mean())


def step_alphas(abars: Tensor) -> Tensor:
    """alpha_t = abar_t / abar_{t-1} of the steps of a schedule, (T,); abars: (T,) from the least noise on, and before
    the first is the image itself, abar 1."""
    return abars / torch.cat([torch.ones_like(abars[:1]), abars[:-1]])


def literal_abars(count: int) -> Tensor:
    """The description's "arithmetic sequence from 0.00002 to 1.0", (count,), read as abar in the order of sampling; so
    from the least noise on it is turned round. No frozen Stable Diffusion has this schedule."""
    return torch.linspace(*LITERAL_ABARS, count, dtype=torch.float64).flip(0)


def theoretical_value(first: Tensor, second: Tensor, weights: Tensor, distance: Distance = points_distance) -> Tensor:
    """Step 9: ||g(B) - g(A)||^2, to whose mean the total is said to tend, (n,). distance: of the small model."""
    return distance(first, second, weights)


def best_points(target: Tensor, held: Tensor, strength: float) -> Tensor:
    """The b that makes Q ||b - B||^2 + ||b - a||^2 least: (Q B + a) / (Q + 1), (n, ...) like both."""
    return (strength * target + held) / (strength + 1)


def least_loss(distance: Tensor, strength: float) -> Tensor:
    """What that least value is, (n,): Q / (Q + 1) ||B - a||^2. It misses `theoretical_value` by the share 1 / (Q + 1).

    distance: ||B - a||^2, (n,).
    """
    return strength / (strength + 1) * distance


def soft_argmax(heatmaps: Tensor, sharpness: float = 30.0) -> tuple[Tensor, Tensor]:
    """Where each heatmap has its peak, and how high it is; differentiable, unlike the peaks of an estimator.

    Args:
        heatmaps: (n, k, h, w), about 0..1, of one person.
        sharpness: of the softmax over the positions; higher is nearer to the peak, and less smooth.

    Returns: points (n, k, 2), x and y in px of the maps, the centre of the first one 0; and confidence (n, k) in 0..1,
        without a gradient: a point that is not seen counts little, and nothing is gained by hiding one.
    """
    heat = heatmaps.float()
    share = torch.softmax(heat.flatten(2) * sharpness, dim=2).view_as(heat)
    x = (share.sum(dim=2) * torch.arange(heat.shape[3], device=heat.device)).sum(dim=2)
    y = (share.sum(dim=3) * torch.arange(heat.shape[2], device=heat.device)).sum(dim=2)
    return torch.stack([x, y], dim=2), heat.detach().flatten(2).amax(dim=2).clamp(0, 1)


def _known(reading: str, kind: object) -> str:
    if reading not in get_args(kind):
        raise ValueError(f"reading = {reading!r}: choose one of {', '.join(get_args(kind))}")
    return reading
