"""What a pose estimator has to say of an image: heatmaps, places of the joints, centres and offsets."""

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


def joint_places(people: People, stride: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Flat positions y * w + x on the maps, (MAX_PEOPLE, 17), and which of them hold a joint."""
    width, height = (side // stride for side in people.canvas)
    small = _on_pixels(people.resize(width, height))
    places = np.zeros((MAX_PEOPLE, 17), np.int64)
    seen = np.zeros((MAX_PEOPLE, 17), bool)
    n = min(people.n, MAX_PEOPLE)
    x, y = (np.clip(small.xy[:n, :, axis], 0, side - 1) for axis, side in ((0, width), (1, height)))
    places[:n] = (y * width + x).astype(np.int64)
    seen[:n] = small.labelled[:n]
    return np.where(seen, places, 0), seen


def centre_targets(people: People, stride: int, sigma_px: float) -> tuple[Float32s, Float32s, NDArray[np.bool_]]:
    """Centres (1, h, w), offsets (34, h, w) in quarters of the width, and where the offsets count (34, h, w).

    A person's centre is the middle of the box of its labelled joints; offsets are asked for at the 3 x 3 positions
    about it.
    """
    width, height = (side // stride for side in people.canvas)
    heat = np.zeros((1, height, width), np.float32)
    offset = np.zeros((34, height, width), np.float32)
    asked = np.zeros((34, height, width), bool)
    unit = people.canvas[0] / 4
    people = people.with_joints()
    boxes = people.boxes()
    middles = ((boxes[:, :2] + boxes[:, 2:]) / 2 + 0.5) / stride - 0.5
    cells = np.clip(np.rint(middles), 0, (width - 1, height - 1)).astype(int)
    y, x = np.mgrid[:height, :width]
    for column, row in cells:
        heat[0] = np.maximum(heat[0], np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * sigma_px**2)))
    for reach in (1, 0):  # the centres themselves last, so that no neighbour takes them
        for xy, seen, (column, row) in zip(people.xy, people.labelled, cells, strict=True):
            rows = slice(max(0, row - reach), row + reach + 1)
            columns = slice(max(0, column - reach), column + reach + 1)
            here = (np.stack([x, y])[:, rows, columns] + 0.5) * stride - 0.5  # in pixels of the image
            away = (xy[:, :, None, None] - here[None]) / unit  # (17, 2, r, c)
            offset[:, rows, columns] = away.reshape(34, *away.shape[2:])
            asked[:, rows, columns] = np.repeat(seen, 2)[:, None, None]
    return heat, offset, asked


def _on_pixels(people: People) -> People:
    """The same people with every joint on the nearest pixel centre."""
    return People(
        np.rint(people.xy), people.score, people.visibility, people.canvas, people.skeleton, people.area, people.extras
    )
