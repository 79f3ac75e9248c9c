"""What every estimator of heatmaps is asked: the joints of a batch of images, and Gaussians about them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from humansd.core.arrays import Float32s
from humansd.pose.people import People

MAX_PEOPLE = 6  # of one image that a batch holds


def joint_arrays(people: People) -> tuple[Float32s, NDArray[np.bool_]]:
    """Joints in pixels of the image, (MAX_PEOPLE, 17, 2), and which of them are there, (MAX_PEOPLE, 17)."""
    n = min(people.n, MAX_PEOPLE)
    xy = np.zeros((MAX_PEOPLE, 17, 2), np.float32)
    seen = np.zeros((MAX_PEOPLE, 17), bool)
    seen[:n] = people.labelled[:n]
    xy[:n] = np.where(seen[:n, :, None], people.xy[:n], 0)
    return xy, seen


def target_heatmaps(xy: Tensor, seen: Tensor, side: int, stride: int, sigma_px: float, peaked: bool = False) -> Tensor:
    """Gaussians about the joints of a batch, the nearest person's where several meet.

    Args:
        xy: (n, p, 17, 2) pixels of the square image of `side` px, and `seen`: (n, p, 17), as of `joint_arrays`.
        sigma_px: in pixels of the maps.
        peaked: every joint is moved to the nearest pixel of the maps, where the value is exactly 1, as the focal loss
            needs; else a peak tells fractions of a pixel.

    Returns: (n, 17, side / stride, side / stride), 0..1.
    """
    people = max(1, int(seen.any(dim=2).sum(dim=1).max()))
    xy = (xy[:, :people] + 0.5) / stride - 0.5
    away = torch.arange(side // stride, device=xy.device) - (xy.round() if peaked else xy)[..., None]
    x, y = torch.exp(-away.square() / (2 * sigma_px**2)).unbind(dim=3)  # each (n, p, 17, side / stride)
    y = y * seen[:, :people, :, None]
    heat = y[:, 0, :, :, None] * x[:, 0, :, None]
    for one in range(1, people):
        heat = torch.maximum(heat, y[:, one, :, :, None] * x[:, one, :, None])
    return heat
