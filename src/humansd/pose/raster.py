"""Sub-pixel coverage of simple shapes: exact distance to the shape, one pixel of anti-aliasing.

OpenCV's anti-aliased fills widen a shape by about 0.65 px on each side, which is a quarter of a limb's width
at 128 px; distances keep the drawn width true at every size and the same on every machine.
"""

from __future__ import annotations

import numpy as np

from humansd.core.arrays import Float64s

# A joint farther away than this is drawn as if it were here: no overflow, and no visible change of direction.
FAR_PX = 1e7


class Patch:
    """The part of a (height, width) image that a shape touches: rows, columns and pixel centres."""

    def __init__(self, points: Float64s, reach: float, shape: tuple[int, int]) -> None:
        height, width = shape
        low = np.clip(np.floor(points.min(axis=0) - reach - 1), 0, (width, height)).astype(int)
        high = np.clip(np.ceil(points.max(axis=0) + reach + 2), 0, (width, height)).astype(int)
        self.index = (slice(low[1], max(low[1], high[1])), slice(low[0], max(low[0], high[0])))
        self.x = np.arange(self.index[1].start, self.index[1].stop, dtype=np.float64)[None, :]
        self.y = np.arange(self.index[0].start, self.index[0].stop, dtype=np.float64)[:, None]

    def __bool__(self) -> bool:
        return bool(self.x.size and self.y.size)

    def to_segment(self, a: Float64s, b: Float64s) -> Float64s:
        """Distance in pixels from each pixel centre to the segment a-b."""
        dx, dy = b - a
        length2 = max(dx * dx + dy * dy, 1e-12)
        along = np.clip(((self.x - a[0]) * dx + (self.y - a[1]) * dy) / length2, 0.0, 1.0)
        return np.asarray(np.hypot(self.x - a[0] - along * dx, self.y - a[1] - along * dy))

    def to_ellipse(self, a: Float64s, b: Float64s, radius: float) -> Float64s:
        """Signed distance (first order) to the ellipse with long axis a-b and semi-minor axis `radius`."""
        centre, half = (a + b) / 2, (b - a) / 2
        long = max(float(np.hypot(*half)), 1e-6)
        ux, uy = half / long if long > 1e-6 else np.array([1.0, 0.0])
        long = max(long, radius * 1e-3)
        u = ((self.x - centre[0]) * ux + (self.y - centre[1]) * uy) / long
        v = ((self.y - centre[1]) * ux - (self.x - centre[0]) * uy) / radius
        k0, k1 = np.hypot(u, v), np.hypot(u / long, v / radius)
        return np.where(k1 > 0, k0 * (k0 - 1.0) / np.maximum(k1, 1e-12), -radius)


def coverage(distance: Float64s, radius: float) -> Float64s:
    """Share of each pixel covered by {distance <= radius}, 0..1; a shape thinner than a pixel turns faint."""
    return np.clip(radius + 0.5 - distance, 0.0, 1.0) - np.clip(0.5 - radius - distance, 0.0, 1.0)


def tame(xy: Float64s) -> Float64s:
    """Coordinates clipped to +-1e7 px."""
    return np.clip(xy, -FAR_PX, FAR_PX)
