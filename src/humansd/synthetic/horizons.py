"""What stands at the back of a place: silhouettes before the sky outdoors, walls and curtains elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from humansd.synthetic.textures import f32, noise_1d

if TYPE_CHECKING:
    from humansd.synthetic.scenery import View

RGB = tuple[float, float, float]
Far = Callable[["View", np.ndarray, np.ndarray, np.ndarray], np.ndarray]
_TURN = 1024  # samples of a 1-D profile over two units of tan(azimuth)


def _profile(view: View, low: float, high: float, slope: float, seed: int) -> np.ndarray:
    """Random outline per column (R,), mean 0, deviation 1; `low`..`high` waves over two units of azimuth."""
    table = noise_1d(_TURN, low, high, slope, seed)
    where = view.sky[0] * (_TURN / 2) + view.rng.uniform(0, _TURN)
    lower = np.floor(where).astype(int)
    part = where - lower
    return table[lower % _TURN] * (1 - part) + table[(lower + 1) % _TURN] * part


def _layer(view: View, image: np.ndarray, outline: np.ndarray, color: np.ndarray) -> None:
    """Cover what is below `outline` (R,), a tangent of elevation, with `colour` (3,) or (W,R,3), in place."""
    cover = np.clip((outline[None, :] - view.sky[1]) * view.camera.focal_px + 0.5, 0, 1).astype(np.float32)
    image += (color - image) * cover[..., None]


def _air(color: RGB, mood: np.ndarray, haze: np.ndarray, amount: float) -> np.ndarray:
    """Colour of a distant thing: lit, then mixed with the haze at the horizon."""
    lit = f32(color) * mood
    return (lit + (haze - lit) * amount).astype(np.float32)


def _meadow(view: View, sky: np.ndarray, haze: np.ndarray, mood: np.ndarray) -> np.ndarray:
    _layer(view, sky, 0.05 + 0.022 * _profile(view, 1, 5, 1.0, 1), _air((0.42, 0.55, 0.42), mood, haze, 0.45))
    _layer(view, sky, 0.022 + 0.010 * _profile(view, 3, 60, 0.5, 2), _air((0.28, 0.42, 0.24), mood, haze, 0.2))
    return sky


def _beach(view: View, sky: np.ndarray, haze: np.ndarray, mood: np.ndarray) -> np.ndarray:
    _layer(view, sky, np.full(view.size, 0.008), _air((0.24, 0.46, 0.62), mood, haze, 0.3))
    return sky


def _snow(view: View, sky: np.ndarray, haze: np.ndarray, mood: np.ndarray) -> np.ndarray:
    _layer(view, sky, 0.10 + 0.05 * _profile(view, 1, 12, 1.2, 3), _air((0.60, 0.68, 0.80), mood, haze, 0.35))
    _firs(view, sky, 0.035, 0.085, _air((0.30, 0.40, 0.42), mood, haze, 0.30))
    return sky


def _desert(view: View, sky: np.ndarray, haze: np.ndarray, mood: np.ndarray) -> np.ndarray:
    _layer(view, sky, 0.06 + 0.03 * _profile(view, 1, 4, 1.2, 4), _air((0.80, 0.60, 0.42), mood, haze, 0.35))
    _layer(view, sky, 0.018 + 0.018 * _profile(view, 1, 6, 1.3, 5), _air((0.70, 0.50, 0.32), mood, haze, 0.12))
    return sky


def _mountains(view: View, sky: np.ndarray, haze: np.ndarray, mood: np.ndarray) -> np.ndarray:
    ridge = np.abs(_profile(view, 1, 30, 1.1, 6))
    outline = 0.30 - 0.11 * ridge
    rock = _air((0.45, 0.50, 0.60), mood, haze, 0.35)
    snow = _air((0.85, 0.88, 0.93), mood, haze, 0.25)
    line = 0.21 + 0.02 * _profile(view, 8, 60, 0.5, 7)
    capped = np.clip((view.sky[1] - line[None, :]) * view.camera.focal_px / 2 + 0.5, 0, 1)[..., None]
    _layer(view, sky, outline, (rock + (snow - rock) * capped).astype(np.float32))
    _layer(view, sky, 0.08 + 0.035 * _profile(view, 1, 14, 1.0, 8), _air((0.34, 0.42, 0.38), mood, haze, 0.25))
    return sky


def _lake(view: View, sky: np.ndarray, haze: np.ndarray, mood: np.ndarray) -> np.ndarray:
    _layer(view, sky, 0.13 + 0.05 * _profile(view, 1, 7, 1.2, 9), _air((0.46, 0.56, 0.62), mood, haze, 0.5))
    _layer(view, sky, 0.035 + 0.012 * _profile(view, 2, 50, 0.6, 10), _air((0.28, 0.40, 0.28), mood, haze, 0.2))
    return sky


def _forest(view: View, sky: np.ndarray, haze: np.ndarray, mood: np.ndarray) -> np.ndarray:
    leaves = _air((0.33, 0.43, 0.27), mood, haze, 0.25)
    _layer(view, sky, 0.42 + 0.10 * _profile(view, 2, 30, 0.7, 11), leaves)
    azimuth, elevation = view.sky
    pixel = 1.0 / view.camera.focal_px
    for half, gap, depth, seed in ((0.010, 0.085, 0.35, 0), (0.020, 0.21, 0.08, 1)):
        bark = _air((0.27, 0.21, 0.15), mood, haze, depth)
        where = azimuth / gap + view.rng.uniform(0, 50)
        wobble = np.sin(np.floor(where) * 12.9898 + seed) * 43758.5453
        inside = np.abs((where % 1.0) - 0.3 - 0.4 * (wobble % 1.0)) * gap
        trunk = np.clip((half - inside) / pixel + 0.5, 0, 1)[None, :, None].astype(np.float32)
        sky += (bark - sky) * trunk
    crown = np.clip((elevation - 0.20 - 0.04 * _profile(view, 3, 30, 0.6, 12)[None, :]) * 14, 0, 1)
    dark = _air((0.25, 0.36, 0.20), mood, haze, 0.1)
    sky += (dark - sky) * crown[..., None].astype(np.float32)
    _layer(view, sky, 0.018 + 0.012 * _profile(view, 3, 50, 0.5, 13), _air((0.30, 0.38, 0.22), mood, haze, 0.12))
    return sky


def _firs(view: View, sky: np.ndarray, gap: float, height: float, color: np.ndarray) -> None:
    """A row of fir trees: triangles of uneven height."""
    where = view.sky[0] / gap + view.rng.uniform(0, 50)
    tall = 0.55 + 0.45 * ((np.sin(np.floor(where) * 78.233) * 43758.5453) % 1.0)
    tip = 1 - np.abs((where % 1.0) - 0.5) * 2
    _layer(view, sky, height * tall * tip + 0.012, color)


def _city(view: View, sky: np.ndarray, haze: np.ndarray, mood: np.ndarray) -> np.ndarray:
    for gap, low, high, color, air in (
        (0.13, 0.16, 0.26, (0.50, 0.54, 0.60), 0.5),
        (0.19, 0.07, 0.20, (0.44, 0.44, 0.48), 0.18),
    ):
        where = view.sky[0] / gap + view.rng.uniform(0, 50)
        block = np.floor(where)
        tall = low + high * ((np.sin(block * 12.9898 + gap) * 43758.5453) % 1.0)
        tone = _air(color, mood, haze, air)
        shade = 1 + 0.10 * np.sin(block * 2.4)[None, :, None].astype(np.float32)
        _layer(view, sky, tall, _windows(view, where % 1.0, block, tall, tone * shade))
    return sky


def _windows(view: View, inside: np.ndarray, block: np.ndarray, tall: np.ndarray, tone: np.ndarray) -> np.ndarray:
    """A facade (W,R,3) with a grid of windows: darker by day, some of them lit at night."""
    elevation = view.sky[1]
    col, row = inside * 5, (tall[None, :] - elevation) / 0.032
    pane = (np.abs(col % 1.0 - 0.5) < 0.24)[None, :] & (np.abs(row % 1.0 - 0.5) < 0.27)
    pane &= (np.abs(inside - 0.5) < 0.4)[None, :]
    facade = np.broadcast_to(tone, (elevation.shape[0], view.size, 3)).astype(np.float32)
    if view.light in ("night", "sunset"):
        key = np.floor(row) * 7.13 + np.floor(col)[None, :] * 3.77 + block[None, :] * 1.91
        lit = pane & (((np.sin(key * 12.9898) * 43758.5453) % 1.0) < 0.35)
        glow = f32((0.74, 0.62, 0.36))
        return np.where(lit[..., None], glow, facade)
    return facade * (1 - 0.13 * pane[..., None].astype(np.float32))


FARS: dict[str, Far] = {
    "meadow": _meadow, "beach": _beach, "snow": _snow, "desert": _desert, "city": _city,
    "forest": _forest, "mountains": _mountains, "lake": _lake,
}  # fmt: skip

WALL_PAINTS: tuple[RGB, ...] = (
    (0.68, 0.72, 0.66), (0.74, 0.68, 0.58), (0.60, 0.68, 0.74), (0.72, 0.62, 0.60), (0.66, 0.66, 0.68),
)  # fmt: skip
BACKDROPS: tuple[RGB, ...] = (
    (0.60, 0.61, 0.63), (0.66, 0.60, 0.53), (0.50, 0.60, 0.68), (0.56, 0.64, 0.58), (0.62, 0.54, 0.60),
)  # fmt: skip
CURTAINS: tuple[RGB, ...] = ((0.42, 0.14, 0.15), (0.42, 0.14, 0.15), (0.17, 0.22, 0.38), (0.28, 0.18, 0.34))
Wall = Callable[["View", RGB], tuple[np.ndarray, RGB]]


def _pick(view: View, table: tuple[RGB, ...]) -> RGB:
    return table[int(view.rng.integers(len(table)))]


def _box(x: np.ndarray, y: np.ndarray, pixel: float, box: tuple[float, float, float, float]) -> np.ndarray:
    """Anti-aliased cover 0..1 of the rectangle (left, bottom, right, top) in metres: (W,R,1)."""
    left, bottom, right, top = box
    side = np.minimum(x - left, right - x)
    rise = np.minimum(y - bottom, top - y)
    return np.clip(np.minimum(side, rise) / pixel + 0.5, 0, 1)[..., None].astype(np.float32)


def _room(view: View, floor: RGB) -> tuple[np.ndarray, RGB]:
    x, y, pixel = view.wall
    paint = f32(_pick(view, WALL_PAINTS))
    lamp = 1.06 - 0.10 * np.square((x - view.rng.uniform(-1, 1)) / 3.0) - 0.03 * np.abs(y - 1.8)
    wall = paint * np.clip(lamp, 0.8, 1.08)[..., None].astype(np.float32)
    wall = wall + (paint * 0.72 - wall) * _box(x, y, pixel, (-99, -1, 99, 0.14))
    left = float(view.rng.choice([-2.6, -2.0, 1.0, 1.5]))
    if view.rng.random() < 0.5:
        inner, frame = f32((0.70, 0.80, 0.88)), f32((0.84, 0.83, 0.80))
        box = (left, 1.0, left + 1.2, 2.4)
    else:
        inner, frame = f32((0.55, 0.60, 0.55)), f32((0.42, 0.30, 0.20))
        box = (left, 1.4, left + 0.9, 2.1)
    wall = wall + (frame - wall) * _box(x, y, pixel, box)
    inside = (box[0] + 0.08, box[1] + 0.08, box[2] - 0.08, box[3] - 0.08)
    wall = wall + (inner - wall) * _box(x, y, pixel, inside)
    if box[1] == 1.0:
        wall = wall + (frame - wall) * _box(x, y, pixel, (left + 0.57, 1.0, left + 0.63, 2.4))
    return wall, floor


def _stage(view: View, floor: RGB) -> tuple[np.ndarray, RGB]:
    x, y, _ = view.wall
    cloth = f32(_pick(view, CURTAINS))
    phase = x * 11 + 0.6 * np.sin(x * 2.7 + view.rng.uniform(0, 6)) + 0.1 * y
    folds = 0.92 + 0.14 * np.sin(phase) + 0.04 * np.sin(2.3 * phase)
    spot = 0.75 + 0.65 * np.exp(-np.square(x / 2.2) - np.square((y - 1.2) / 1.8))
    return (cloth * (folds * spot)[..., None]).astype(np.float32), floor


def _studio(view: View, floor: RGB) -> tuple[np.ndarray, RGB]:
    x, y, _ = view.wall
    color = _pick(view, BACKDROPS)
    glow = 0.92 + 0.16 * np.exp(-np.square(x / 2.0) - np.square((y - 1.3) / 1.5))
    foot = 1 - 0.05 * np.exp(-np.square(y / 0.25))
    return (f32(color) * (glow * foot)[..., None]).astype(np.float32), color


def _brick_wall(view: View, floor: RGB) -> tuple[np.ndarray, RGB]:
    x, y, pixel = view.wall
    row = y / 0.16
    col = (x + 0.16 * (np.floor(row) % 2)) / 0.32
    gap_y = np.abs(row - np.round(row)) * 0.16
    gap_x = np.abs(col - np.round(col)) * 0.32
    width = max(0.010, 0.5 * pixel)
    joint = np.clip((width - np.minimum(gap_x, gap_y)) / pixel + 0.5, 0, 1) * min(1.0, 0.012 / width)
    tone = (np.sin(np.floor(row) * 12.99 + np.floor(col) * 78.23) * 43758.5453) % 1.0
    brick = f32((0.58, 0.33, 0.26)) * (0.95 + 0.10 * tone)[..., None].astype(np.float32)
    wall = brick + (f32((0.66, 0.62, 0.57)) - brick) * (joint * 0.6)[..., None].astype(np.float32)
    return wall, floor


def _gym(view: View, floor: RGB) -> tuple[np.ndarray, RGB]:
    x, y, pixel = view.wall
    wall = np.broadcast_to(f32((0.70, 0.72, 0.70)), (*x.shape, 3)).copy()
    bars = _box(x, y, pixel, (-99, 2.3, 99, 3.3))
    wall += (f32((0.74, 0.82, 0.86)) - wall) * bars
    mullion = np.clip((0.05 - np.abs((x / 1.5) % 1.0 - 0.5) * 1.5) / pixel + 0.5, 0, 1)[..., None]
    wall += (f32((0.52, 0.55, 0.56)) - wall) * (mullion * bars).astype(np.float32)
    pad = _box(x, y, pixel, (-99, -1, 99, 1.35))
    wall += (f32((0.32, 0.42, 0.50)) - wall) * pad
    seam = np.clip((0.02 - np.abs(x % 1.0 - 0.5)) / pixel + 0.5, 0, 1)[..., None] * 0.25
    wall *= 1 - (seam * pad).astype(np.float32)
    return wall, floor


WALLS: dict[str, Wall] = {
    "room": _room, "stage": _stage, "studio": _studio, "brick_wall": _brick_wall, "gym": _gym,
}  # fmt: skip
