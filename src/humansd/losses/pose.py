"""Losses of the pose estimators: heatmaps, tags, centres and offsets, each a short pure function."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

APART = 2.0  # least distance of two people's tags; grouping joins what is nearer than 1


def heatmap_error(prediction: Tensor, target: Tensor, emphasis: float = 4.0) -> Tensor:
    """Mean squared error of heatmaps (n, k, h, w) with target in 0..1, a position at a joint counting 1 + emphasis.

    HigherHRNet sec. 3.3 with a softer balance: on small maps of few people almost every position is empty.
    """
    return ((1 + emphasis * target) * (prediction.float() - target).square()).mean()


def tag_error(tags: Tensor, places: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Pull and push of associative embedding (Newell et al. 2017, Eq. 1), means over the batch.

    The push is ours, steepest where two tags are equal, as at the start. The published one, exp(-d^2 / 2), is flat
    there, and a short training never leaves it.

    Args:
        tags: (n, k, h, w).
        places: (n, p, k) long, flat positions y * w + x of the joints of up to p people.
        seen: (n, p, k) bool, which of them count.

    Returns: pull, the mean squared distance of a joint's tag to its person's mean; push, by how much the means of two
    people are nearer than `APART`, averaged over pairs. Both 0 without people, push 0 with one.
    """
    p = places.shape[1]
    values = tags.float().flatten(2).gather(2, places.permute(0, 2, 1)).permute(0, 2, 1)  # (n, p, k)
    counts = seen.sum(dim=2)
    here = counts > 0
    mean = (values * seen).sum(dim=2) / counts.clamp(min=1)
    spread = ((values - mean[..., None]).square() * seen).sum(dim=2) / counts.clamp(min=1)
    people = here.sum(dim=1)
    pull = (spread * here).sum(dim=1) / people.clamp(min=1)
    gap = (mean[:, :, None] - mean[:, None]).abs()
    pairs = here[:, :, None] & here[:, None] & ~torch.eye(p, dtype=torch.bool, device=tags.device)
    push = ((APART - gap).clamp(min=0) * pairs).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2)).clamp(min=1)
    return pull.mean(), push.mean()


def focal_error(logits: Tensor, target: Tensor) -> Tensor:
    """Penalty-reduced focal loss of heatmaps (Zhou et al. 2019, Eq. 1; alpha 2, beta 4), per peak of the batch.

    logits, target: (n, k, h, w); a target of exactly 1 is a peak.
    """
    logits = logits.float()
    peak = target >= 1
    empty = (1 - target).square().square() * logits.sigmoid().square() * F.softplus(logits)  # 0 at a peak
    at = logits[peak]
    return (empty.sum() + ((1 - at.sigmoid()).square() * F.softplus(-at)).sum()) / peak.sum().clamp(min=1)


def offset_error(offsets: Tensor, target: Tensor, seen: Tensor) -> Tensor:
    """Mean absolute error of offsets (n, 2 k, h, w) where `seen` (same shape, bool) says that they count."""
    return (offsets[seen].float() - target[seen]).abs().sum() / seen.sum().clamp(min=1)
