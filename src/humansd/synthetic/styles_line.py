"""Styles made of lines and flat colour: cartoon, comic, pencil, woodblock print, crayon, pixels."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from humansd.synthetic.sheet import LUMA, Sheet, blur, inset, mix, saturate
from humansd.synthetic.textures import f32, hatching, noise, shifted


def cartoon(s: Sheet) -> np.ndarray:
    """Flat bright colours, two tones of shade, dark outlines; a simplified place."""
    ground = saturate(mix(_flat(s, 4.0, 10), (1.0, 1.0, 1.0), 0.20), 1.35)
    ground = s.separate(ground) * np.where(s.shadow < 0.85, 0.80, 1.0).astype(np.float32)
    image = s.over(ground, saturate(s.cel((0.76, 1.03), (0.84,)), 1.08))
    return mix(image, (0.09, 0.07, 0.10), s.drawing(1.05 * s.stroke, 0.75))


def _flat(s: Sheet, radius: float, steps: int) -> np.ndarray:
    """The place as areas of flat colour: blurred by `radius` units, then cut into `steps` levels of light."""
    ground = blur(s.ground, radius * s.unit)
    luma = (ground @ LUMA)[..., None]
    return ground + (np.floor(luma * steps) + 0.5) / steps - luma


@lru_cache(maxsize=8)
def _dots(side: int, pitch: float) -> np.ndarray:
    """Printer's dot screen turned by 45 degrees: (R,R) in 0..1, `pitch` pixels."""
    axis = np.arange(side, dtype=np.float32) * (2 * np.pi / pitch / np.sqrt(2))
    u, v = axis[None, :] + axis[:, None], axis[None, :] - axis[:, None]
    return np.ascontiguousarray(0.5 + 0.25 * (np.cos(u) + np.cos(v)), dtype=np.float32)


def comic(s: Sheet) -> np.ndarray:
    """Printed page: heavy ink, halftone dots in the place and the shade, panel frame on paper."""
    unit = s.unit
    screen = _dots(s.side, 7.0 * unit)
    ground = saturate(blur(s.ground, 3.0 * unit), 1.5)
    dark = 1 - blur(s.ground @ LUMA, 3.0 * unit) * s.shadow[..., 0]
    ink = np.clip((np.clip(dark * 0.7, 0.10, 0.5) - screen + 0.10) * 4 + 0.5, 0, 1)
    paper = mix(ground, (1.0, 0.97, 0.88), 0.62)
    ground = mix(paper, ground, ink * 0.55)
    figure = saturate(s.cel((0.92, 1.04), (0.72,)), 1.15)
    shade = np.clip((np.clip((0.86 - s.soft_tone) * 1.7, 0, 0.45) - screen + 0.10) * 5 + 0.5, 0, 1)
    figure = mix(figure, figure * 0.5, shade * (s.soft_tone < 0.84))
    image = s.over(ground, figure)
    image = mix(image, (1.0, 0.99, 0.95), np.clip(s.contour(3.6 * s.stroke) * 0.85, 0, 1) * (1 - s.cover[..., 0]))
    image = mix(image, (0.04, 0.03, 0.05), s.drawing(1.65 * s.stroke, 0.6))
    edge = inset(s.side)
    image = mix(image, (0.04, 0.03, 0.05), np.clip(11.5 - edge, 0, 1))
    return mix(image, (0.98, 0.96, 0.90), np.clip(8.0 - edge, 0, 1))


def wobble(s: Sheet, image: np.ndarray, reach: float, seed: int) -> np.ndarray:
    """`image` bent like an unsteady hand would draw it, by up to about 2 * `reach` pixels."""
    side = s.side
    grid_y, grid_x = np.mgrid[:side, :side].astype(np.float32)
    shift_x = grid_x + noise(side, 2, 12, 0.9, seed=seed) * reach
    shift_y = grid_y + noise(side, 2, 12, 0.9, seed=seed + 1) * reach
    return cv2.remap(image, shift_x, shift_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def sketch(s: Sheet) -> np.ndarray:
    """Pencil on paper: outlines drawn twice, hatching by tone, the place only lightly."""
    side, unit = s.side, s.unit
    light = np.where(s.figure, (s.layers.albedo @ LUMA) * 0.62 + 0.40 * s.tone - 0.06, 1.0)
    place = blur(s.ground @ LUMA, 2.0 * unit)
    place = 0.97 + 0.30 * (place - max(float(place.mean()), 0.3)) - 0.28 * (1 - s.shadow[..., 0]) / 0.5
    dark = np.clip(1 - np.where(s.figure, light, np.clip(place, 0.70, 1)), 0, 1).astype(np.float32)
    strokes = np.clip((dark * 1.05 - hatching(side, 46, 38) + 0.02) * 3.2, 0, 1) * 0.62
    strokes += np.clip((dark * 1.5 - 0.50 - hatching(side, 46, -42, 1)) * 3.2, 0, 1) * 0.5
    lines = s.drawing(0.95 * s.stroke, 0.85)
    twice = np.maximum(wobble(s, lines, 0.5 * unit, 51), wobble(s, lines, 1.2 * unit, 53) * 0.4)
    place_edges = cv2.Laplacian(blur(s.ground @ LUMA, 1.4 * unit), -1, ksize=3)
    twice = np.maximum(twice, np.clip(np.abs(place_edges) * 4 - 0.06, 0, 0.26) * (1 - s.cover[..., 0]))
    grain = 0.85 + 0.15 * shifted(noise(side, 30, 110, 0.1, seed=55), s.rng)
    cover = np.clip(np.maximum(strokes, twice) * grain, 0, 1)
    return mix(np.full((side, side, 3), (0.955, 0.945, 0.915), np.float32), (0.14, 0.14, 0.17), cover)


def ukiyoe(s: Sheet) -> np.ndarray:
    """Woodblock print: flat muted inks, dark thin lines, graded blue sky, grain of paper, title slip."""
    side, unit = s.side, s.unit
    cream = f32((0.93, 0.87, 0.73))
    ground = mix(saturate(_flat(s, 5.0, 8), 0.9), cream, 0.42)
    rows = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    night = s.plan.light == "night"
    ground = mix(ground, (0.14, 0.22, 0.40), np.clip(1 - rows / 0.30, 0, 1) * (0.85 if night else 0.70))
    ground = mix(ground, cream, np.exp(-np.square((rows - 0.34) / 0.08)) * 0.45)
    ground = s.separate(ground, 0.12) * np.where(s.shadow < 0.85, 0.88, 1.0).astype(np.float32)
    figure = mix(saturate(s.cel((0.86, 0.99), (0.80,)), 0.92), cream, 0.05)
    image = mix(s.over(ground, figure), (0.10, 0.10, 0.16), s.drawing(0.95 * s.stroke, 0.75))
    grain = shifted(noise(side, 4, 70, 0.4, 14.0, seed=57), s.rng)[..., None]
    image = image * (1 + 0.022 * grain)
    edge = inset(side)
    image = mix(image, (0.16, 0.14, 0.18), np.clip(10.0 - edge, 0, 1))
    image = mix(image, cream, np.clip(8.5 - edge, 0, 1))
    slip = slice(round(16 * unit), round(56 * unit)), slice(side - round(32 * unit), side - round(18 * unit))
    image[slip] = mix(image[slip], (0.74, 0.20, 0.15), 0.92)
    return image


def kids_drawing(s: Sheet) -> np.ndarray:
    """Wax crayon on white paper: wobbly outlines, scribbled colour, strip of sky, sun or moon."""
    side, unit = s.side, s.unit
    horizon = int(np.clip(s.layers.camera.horizon_y(), 0.30 * side, 0.62 * side))
    sky = saturate(s.ground[: max(horizon // 2, 1)].mean((0, 1)), 1.5)
    earth = saturate(s.ground[(horizon + side) // 2 :].mean((0, 1)), 1.6)
    paper = np.full((side, side, 3), (0.975, 0.97, 0.955), np.float32)
    rough = hatching(side, 40, 32, 2)
    wax = np.clip((0.78 - rough) * 2.2, 0.35, 1)
    rows = (np.arange(side, dtype=np.float32)[:, None] + noise(side, 1, 5, 1.0, seed=61) * 4 * unit) / side
    band = np.clip((0.26 - rows) * 40, 0, 1) * 0.50 + np.clip((rows - horizon / side - 0.08) * 40, 0, 1) * 0.50
    tint = np.where(rows[..., None] < 0.3, sky, earth).astype(np.float32)
    image = mix(paper, np.clip(tint, 0.05, 1), band * wax)
    corner = (0.13 * side, 0.14 * side) if s.rng.random() < 0.5 else (0.87 * side, 0.14 * side)
    image = _sun(image, corner, side, s.plan.light == "night")
    layers = np.dstack([saturate(s.layers.albedo, 1.1), s.cover[..., 0], s.drawing(1.35 * s.stroke, 0.75)])
    bent = wobble(s, layers.astype(np.float32), 1.5 * unit, 63)
    scribble = np.clip((0.86 - hatching(side, 44, -50, 3)) * 3.0, 0.87, 1)
    image = mix(image, (0.975, 0.97, 0.955), np.clip(blur(bent[..., 3], 2.5 * unit) * 2.2, 0, 1))
    image = mix(image, np.clip(bent[..., :3], 0, 1), bent[..., 3] * scribble)
    line = bent[..., 4] * np.clip(1.0 + 0.25 * shifted(noise(side, 20, 80, 0.3, seed=65), s.rng), 0.4, 1)
    return mix(image, (0.13, 0.11, 0.14), np.clip(line, 0, 1) * 0.9)


def _sun(image: np.ndarray, corner: tuple[float, float], side: int, night: bool) -> np.ndarray:
    grid_y, grid_x = np.mgrid[:side, :side].astype(np.float32)
    off_x, off_y = grid_x - corner[0], grid_y - corner[1]
    away = np.hypot(off_x, off_y) / side
    disc = np.clip((0.065 - away) * side / 2, 0, 1)
    if night:
        bite = np.clip((np.hypot(off_x - 0.03 * side, off_y) / side - 0.05) * 90, 0, 1)
        return mix(image, (0.97, 0.90, 0.55), disc * bite)
    rays = np.clip(np.cos(np.arctan2(off_y, off_x) * 9) * 4 - 2.4, 0, 1) * np.clip((0.115 - away) * 60, 0, 1)
    return mix(image, (0.98, 0.80, 0.15), np.maximum(disc, rays * (away > 0.075)) * 0.95)


def pixel_art(s: Sheet) -> np.ndarray:
    """A 64 x 64 grid of blocks in few colours, three tones of shade, one block of outline."""
    n = 64
    ground = _flat(s, 3.0, 12) * np.where(s.shadow < 0.85, 0.8, 1).astype(np.float32)
    ground = cv2.resize(ground, (n, n), interpolation=cv2.INTER_AREA)
    ground = np.floor(saturate(ground, 1.15) * 24 + 0.5) / 24
    cover = cv2.resize(s.cover[..., 0], (n, n), interpolation=cv2.INTER_AREA)
    color = cv2.resize(s.layers.albedo * s.cover, (n, n), interpolation=cv2.INTER_AREA)
    tone = cv2.resize(s.tone * s.cover[..., 0], (n, n), interpolation=cv2.INTER_AREA)
    share = np.maximum(cover, 1e-3)
    solid = cover > 0.42
    step = f32((0.74, 0.98, 1.10))[np.digitize(tone / share, (0.80, 1.10))]
    color = np.floor(color / share[..., None] * 12 + 0.5) / 12
    color = np.clip(saturate(color, 1.1) * step[..., None] * np.sqrt(s.tint), 0, 1)
    pick = np.minimum(((np.arange(n) + 0.5) * s.side / n).astype(int), s.side - 1)
    folds = cv2.resize(s.folds.astype(np.float32), (n, n), interpolation=cv2.INTER_AREA) > 0.15
    regions = s.regions[np.ix_(pick, pick)]
    seam = (regions != np.roll(regions, 1, 0)) & (regions > 0) & (np.roll(regions, 1, 0) > 0)
    color = np.where((folds | seam)[..., None], color * 0.72, color)
    ring = (
        cv2.dilate(solid.astype(np.uint8), np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)).astype(bool) & ~solid
    )
    out = np.where(solid[..., None], color, ground)
    out = np.where(ring[..., None], f32((0.09, 0.07, 0.14)), out).astype(np.float32)
    return cv2.resize(out, (s.side, s.side), interpolation=cv2.INTER_NEAREST)
