"""Peaks of heatmaps: where they are, to a fraction of a pixel. Arrays of one image; maps (k, h, w)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from humansd.core.arrays import Float32s

Index = NDArray[np.int64]


def local_maxima(maps: Float32s, reach: int, least: float) -> tuple[Index, Index, Index]:
    """Joint, y and x of the values of (k, h, w) above `least` to which no higher one lies within `reach` pixels on both
    axes, in the order of the joints."""
    k, h, w = maps.shape
    # One image of all maps, rows of nothing between them: a dilation is many times as fast as max pooling on a CPU.
    apart = np.full((k, h + reach, w), -np.inf, np.float32)
    apart[:, :h] = maps
    box = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    highest = cv2.dilate(apart.reshape(-1, w), box).reshape(apart.shape)[:, :h]
    index = np.flatnonzero((maps == highest) & (maps > least))
    return index // (h * w), index // w % h, index % w


def subpixel(heatmaps: Float32s, place: Index, score: Float32s) -> Float32s:
    """Places (n, k, 2) in fractions of a pixel: the vertex of a parabola through the logarithm of the peak and its two
    neighbours on each axis, exact for a Gaussian; at most half a pixel, and unmoved at the border."""
    k, h, w = heatmaps.shape
    out = place.astype(np.float32)
    joint = np.broadcast_to(np.arange(k), place.shape[:2])
    x, y = place[..., 0], place[..., 1]
    inside = (x > 0) & (x < w - 1) & (y > 0) & (y < h - 1) & (score > 0)
    j, x, y = joint[inside], x[inside], y[inside]

    def log(dx: int, dy: int) -> Float32s:
        return np.log(np.maximum(heatmaps[j, y + dy, x + dx], 1e-6))

    here = log(0, 0)
    for axis, (dx, dy) in enumerate(((1, 0), (0, 1))):
        before, after = log(-dx, -dy), log(dx, dy)
        bend = before - 2 * here + after
        shift = np.where(bend < -1e-6, 0.5 * (before - after) / np.minimum(bend, -1e-6), 0)
        out[..., axis][inside] += np.clip(shift, -0.5, 0.5)
    return out
