"""Noise, cells and bristles that scenery and styles share: made once per image size, then only shifted.

Every texture is float32 and read-only; `size` is its side in pixels and frequencies are cycles per side, so
that a style looks the same at every resolution. All but `hatching` are periodic.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike


def f32(values: ArrayLike) -> np.ndarray:
    """`values` as a float32 array."""
    return np.asarray(values, np.float32)


@lru_cache(maxsize=128)
def noise(size: int, low: float, high: float, slope: float = 1.0, stretch: float = 1.0, seed: int = 0) -> np.ndarray:
    """Gaussian noise (size,size) with zero mean and unit deviation, clipped to +-3.

    Power lies between `low` and `high` cycles per side and falls as f^(-2 slope); `stretch` > 1 draws the
    grain out along x, < 1 along y.
    """
    rng = np.random.default_rng([seed, 7])
    fy = np.fft.fftfreq(size)[:, None] * size / np.sqrt(stretch)
    fx = np.fft.rfftfreq(size)[None, :] * size * np.sqrt(stretch)
    f = np.hypot(fx, fy)
    gain = np.where((f >= low) & (f <= high), np.maximum(f, 1e-6) ** -slope, 0.0)
    # Noise is drawn per frequency, low ones first, so that another size gives the same pattern.
    field = np.fft.irfft2(_spectrum(size, rng) * gain, s=(size, size))
    return _freeze(np.clip(field / max(float(field.std()), 1e-12), -3, 3))


def _spectrum(size: int, rng: np.random.Generator) -> np.ndarray:
    """White complex spectrum (size, size//2+1) whose lowest 64 frequencies do not depend on `size`."""
    core = rng.standard_normal((129, 65, 2))
    full = rng.standard_normal((size, size // 2 + 1, 2))
    k = min(64, size // 2 - 1)
    full[: k + 1, : k + 1] = core[: k + 1, : k + 1]
    full[-k:, : k + 1] = core[129 - k :, : k + 1]
    return full[..., 0] + 1j * full[..., 1]


@lru_cache(maxsize=16)
def noise_1d(size: int, low: float, high: float, slope: float = 1.0, seed: int = 0) -> np.ndarray:
    """Periodic noise (size,), zero mean, unit deviation, power between `low` and `high` cycles per period."""
    rng = np.random.default_rng([seed, 11])
    f = np.fft.rfftfreq(size) * size
    spectrum = rng.standard_normal(f.size) + 1j * rng.standard_normal(f.size)
    gain = np.where((f >= low) & (f <= high), np.maximum(f, 1e-6) ** -slope, 0.0)
    field = np.fft.irfft(spectrum * gain, n=size)
    return _freeze(field / field.std())


def shifted(texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The periodic `texture` from a random place on (a copy)."""
    dy, dx = (int(rng.integers(n)) for n in texture.shape[:2])
    return np.roll(texture, (dy, dx), axis=(0, 1))


@lru_cache(maxsize=24)
def cells(size: int, across: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Periodic Voronoi cells of a jittered grid `across` x `across`.

    Returns labels int32 (size,size) in [0, across^2) and the distance to the nearest border, float32 pixels.
    """
    rng = np.random.default_rng([seed, 13])
    jitter = rng.uniform(0.1, 0.9, (across, across, 2))
    axis = (np.arange(size) + 0.5) * across / size
    cell = np.floor(axis).astype(int)
    best = np.full((size, size), np.inf)
    second = np.full((size, size), np.inf)
    label = np.zeros((size, size), np.int32)
    for dy in (-2, -1, 0, 1, 2):
        for dx in (-2, -1, 0, 1, 2):
            iy, ix = cell[:, None] + dy, cell[None, :] + dx
            point = jitter[iy % across, ix % across]
            far = np.hypot(axis[:, None] - iy - point[..., 1], axis[None, :] - ix - point[..., 0])
            nearer = far < best
            second = np.where(nearer, best, np.minimum(second, far))
            label = np.where(nearer, (iy % across) * across + ix % across, label).astype(np.int32)
            best = np.minimum(best, far)
    label.setflags(write=False)
    return label, _freeze((second - best) / 2 * size / across)


@lru_cache(maxsize=16)
def hatching(size: int, lines: int, degrees: float, seed: int = 0) -> np.ndarray:
    """Hand-drawn parallel strokes: (size,size) in 0..1, 0 on a line, 1 half-way between two lines.

    About `lines` strokes cross the image; they waver a little and vary in pressure.
    """
    axis = np.arange(size) / size
    angle = np.deg2rad(degrees)
    waver = noise(size, 1, 6, 1.0, seed=seed + 5) * 0.22
    phase = (np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None]) * lines + waver
    ramp = np.abs((phase % 1.0) - 0.5) * 2
    pressure = noise(size, 3, 30, 0.6, seed=seed + 6) * 0.10
    return _freeze(np.clip(1 - ramp + pressure, 0, 1))


@lru_cache(maxsize=8)
def bristles(size: int, seed: int = 0) -> np.ndarray:
    """Brush-hair relief: noise (size,size), unit deviation, drawn out along a direction that turns slowly."""
    fine = noise(size, 20, 90, 0.3, seed=seed)
    angle = noise(size, 1, 3, 1.0, seed=seed + 1) * 0.9
    return _freeze(smear(fine, angle, round(size / 40)))


def smear(image: np.ndarray, angle: np.ndarray, reach: int) -> np.ndarray:
    """Mean of `image` along straight strokes of +-`reach` pixels in direction `angle` (radians), periodic."""
    n = image.shape[0]
    grid_y, grid_x = np.mgrid[:n, :n].astype(np.float32)
    dx, dy = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    total = np.zeros(image.shape, np.float32)
    steps = np.arange(-reach, reach + 1)
    for s in f32(steps):
        total += cv2.remap(image, grid_x + s * dx, grid_y + s * dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    total /= steps.size
    return total / max(float(total.std()), 1e-6) if image.ndim == 2 else total


def _freeze(array: np.ndarray) -> np.ndarray:
    out = np.ascontiguousarray(array, dtype=np.float32)
    out.setflags(write=False)
    return out
