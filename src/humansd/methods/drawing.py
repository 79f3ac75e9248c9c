"""A pose as the image that a method is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from humansd.pose.people import People, fit_box
from humansd.pose.render import DrawStyle, draw_people

Drawable: TypeAlias = People | np.ndarray | None
_SAME_SHAPE = 0.01  # relative difference of aspect ratios that a resize may hide


def draw_pose(pose: Drawable, style: DrawStyle, size: tuple[int, int]) -> np.ndarray | None:
    """One pose drawn at `size` = (width, height): uint8 RGB (height, width, 3); None for a dropped pose.

    People and skeleton images are letterboxed into the size, never stretched; beside an image is the color of its
    corners.
    """
    if pose is None:
        return None
    if isinstance(pose, People):
        return draw_people(pose.fit(*size), style)
    height, width = pose.shape[:2]
    if (width, height) == size:
        return pose
    if abs(width * size[1] / (height * size[0]) - 1) <= _SAME_SHAPE:
        return np.asarray(Image.fromarray(pose).resize(size, Image.Resampling.BILINEAR))
    inner_width, inner_height, left, top = fit_box((width, height), size)
    out = np.empty((size[1], size[0], 3), np.uint8)
    out[:] = np.median(pose[[0, 0, -1, -1], [0, -1, 0, -1]], axis=0)
    inner = Image.fromarray(pose).resize((inner_width, inner_height), Image.Resampling.BILINEAR)
    out[top : top + inner_height, left : left + inner_width] = np.asarray(inner)
    return out


def drawings(poses: Sequence[Drawable], style: DrawStyle, size: tuple[int, int]) -> Tensor:
    """Poses drawn at `size` = (width, height): float32 (n, 3, height, width) in [-1, 1]; a dropped one is
    that of nobody, black in most styles."""
    nobody = draw_people(People.empty(size), style)
    drawn = [draw_pose(pose, style, size) for pose in poses]
    stack = np.stack([nobody if one is None else one for one in drawn]).astype(np.float32) / 127.5 - 1
    return torch.from_numpy(stack).permute(0, 3, 1, 2)
