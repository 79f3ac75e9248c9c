"""Styles made of light: photographs, statues, carved stone, the shadow theatre and neon tubes."""

from __future__ import annotations

import cv2
import numpy as np

from humansd.synthetic.buffers import BOTTOM, HAIR, TOP
from humansd.synthetic.sheet import LUMA, Sheet, blur, inset, mix, saturate, vignette
from humansd.synthetic.textures import f32, noise, shifted

RGB = tuple[float, float, float]


def photo(s: Sheet) -> np.ndarray:
    """Figures in the light of the place, the place a little out of focus."""
    ground = blur(s.separate(s.ground), 0.9 * s.unit) * s.shadow
    return s.over(ground, s.lit) * vignette(s.side, 0.16)


def vintage_photo(s: Sheet) -> np.ndarray:
    """Sepia print: faded blacks, soft focus, grain, dark corners, cream border."""
    ground = s.separate(np.repeat((s.ground @ LUMA)[..., None], 3, axis=2), 0.28)
    image = blur(s.over(blur(ground, 1.2 * s.unit) * s.shadow, s.lit), 0.7 * s.unit)
    luma = np.clip(((image @ LUMA) - 0.45) * 1.25 + 0.47, 0.02, 1)
    luma = luma * (1 - 0.35 * s.drawing(0.7 * s.stroke, 0.6))
    luma = luma * vignette(s.side, 0.42)[..., 0] + shifted(noise(s.side, 16, 90, 0.2, seed=41), s.rng) * 0.022
    dark, light = f32((0.17, 0.105, 0.06)), f32((0.93, 0.83, 0.65))
    out = dark + (light - dark) * np.clip(luma, 0, 1)[..., None]
    return mix(out, (0.90, 0.85, 0.74), np.clip(9.5 - inset(s.side), 0, 1))


STONES: dict[str, tuple[RGB, float]] = {  # colour, gloss
    "marble": ((0.92, 0.91, 0.88), 0.10), "bronze": ((0.47, 0.34, 0.20), 0.75),
    "verdigris": ((0.40, 0.57, 0.50), 0.30), "terracotta": ((0.72, 0.45, 0.32), 0.05),
}  # fmt: skip


def _drapery(s: Sheet) -> np.ndarray:
    """Hanging folds on cloth as a factor about 1 (R,R)."""
    field = shifted(noise(s.side, 4, 26, 0.7, 0.22, seed=43), s.rng)
    cloth = (s.layers.material == TOP) | (s.layers.material == BOTTOM)
    locks = shifted(noise(s.side, 16, 60, 0.4, 0.6, seed=44), s.rng)
    return 1 + 0.035 * field * cloth + 0.10 * locks * (s.layers.material == HAIR)


def sculpture(s: Sheet) -> np.ndarray:
    """A statue of one material in its place: stone or bronze, folds in the cloth, dark crevices."""
    name = tuple(STONES)[int(s.rng.choice(4, p=(0.45, 0.25, 0.15, 0.15)))]
    color, gloss = STONES[name]
    normal = s.layers.normal
    tone = np.power(np.clip(s.tone, 0.3, 1.2), 1.5) * _drapery(s)
    tone = tone * (1 - 0.42 * s.outline(1.2 * s.unit)) * (0.92 + 0.08 * normal[..., 1])
    stone = f32(color) * tone[..., None]
    if name == "marble":
        vein = np.exp(-np.square(shifted(noise(s.side, 2, 14, 1.2, 0.6, seed=45), s.rng) / 0.07))
        stone = stone * (1 - 0.09 * vein[..., None])
    half = f32(s.layers.light) + f32((0, 0, 1))
    shine = np.clip(normal @ (half / np.linalg.norm(half)), 0, 1) ** 22
    stone = stone + gloss * shine[..., None] * f32((0.9, 0.82, 0.68))
    ground = saturate(blur(s.ground, 1.8 * s.unit), 0.55)
    mean = float((ground @ LUMA).mean())
    goal = 0.42 if name == "marble" else 0.66
    ground = np.clip(ground * np.clip(goal / max(mean, 0.05), 0.6, 1.7), 0, 1) * s.shadow
    return s.over(ground, np.clip(stone * np.sqrt(s.tint), 0, 1)) * vignette(s.side, 0.18)


SLABS: tuple[RGB, ...] = ((0.80, 0.70, 0.53), (0.70, 0.69, 0.66), (0.76, 0.62, 0.52), (0.66, 0.68, 0.62))


def relief(s: Sheet) -> np.ndarray:
    """Stone slab lit from the upper left: figures raised, the place hinted at, a plain frame."""
    slab = f32(SLABS[int(s.rng.integers(len(SLABS)))])
    side, unit = s.side, s.unit
    height = blur(s.ground @ LUMA, 2.2 * unit) * 5.0 * unit
    height = height + shifted(noise(side, 3, 24, 1.3, seed=46), s.rng) * 0.20 * unit
    edge = inset(side)
    height = height + 3.0 * unit * np.clip((13 - edge) / 4, 0, 1)
    slope_x, slope_y = cv2.Sobel(height, -1, 1, 0, scale=0.125), cv2.Sobel(height, -1, 0, 1, scale=0.125)
    flat = 0.74 + np.clip(0.55 * slope_x + 0.55 * slope_y, -0.4, 0.4)
    cast = blur(s.cover[..., 0], 3.0 * unit)
    move = f32([[1, 0, 4.0 * unit], [0, 1, 4.5 * unit]])
    flat = flat * (1 - 0.42 * cv2.warpAffine(cast, move, (side, side)))
    light = f32((-0.56, 0.58, 0.59))
    figure = 0.36 + 0.94 * np.clip(s.layers.normal @ light, 0, 1)
    figure = figure * _drapery(s) * (1 - 0.45 * s.outline(1.3 * unit))
    tone = np.where(s.figure, figure, flat) * (1 + 0.02 * shifted(noise(side, 20, 90, 0.2, seed=47), s.rng))
    return slab * tone[..., None]


def shadow_play(s: Sheet) -> np.ndarray:
    """Black puppets before a warm lit screen, thin light between their parts, a dark frame."""
    side, unit = s.side, s.unit
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    away = axis[None, :] ** 2 + (axis[:, None] + 0.1) ** 2
    glow = np.exp(-away / 1.1)[..., None]
    screen = f32((0.66, 0.33, 0.10)) + (f32((1.0, 0.86, 0.56)) - f32((0.66, 0.33, 0.10))) * glow
    place = blur(s.ground @ LUMA, 2.5 * unit)
    place = np.clip((place - float(place.mean())) * 0.55, -0.16, 0.12)[..., None]
    screen = screen * (1 + place) * (1 + 0.012 * shifted(noise(side, 30, 80, 0.2, seed=48), s.rng)[..., None])
    slits = s.outline(1.5 * unit) * (1 - s.contour(2.6 * unit)) * 0.9
    puppet = mix(np.full((side, side, 3), 0.035, np.float32), (0.95, 0.55, 0.22), slits)
    puppet = np.where(s.thing[..., None], f32((0.30, 0.13, 0.04)), puppet)
    image = s.over(screen, puppet)
    return mix(image, (0.12, 0.05, 0.04), np.clip(8 - inset(side), 0, 1))


TUBES: tuple[RGB, ...] = (
    (1.0, 0.20, 0.62), (0.15, 0.88, 1.0), (0.45, 1.0, 0.30),
    (1.0, 0.72, 0.15), (0.68, 0.38, 1.0), (1.0, 0.35, 0.22),
)  # fmt: skip


def neon(s: Sheet) -> np.ndarray:
    """Glowing tubes along every outline in a dark place, their light on the floor."""
    side, unit = s.side, s.unit
    start = int(s.rng.integers(len(TUBES)))
    table = np.zeros((256, 3), np.float32)
    for code in range(1, 256):
        table[code] = TUBES[(start + 2 * (code // 16) + (code % 16)) % len(TUBES)]
    hue = table[s.regions]
    spread = blur(s.cover[..., 0], 2.0 * unit)[..., None]
    color = blur(hue, 2.0 * unit) / np.maximum(spread, 1e-3)
    tube = s.drawing(max(2.0 * unit, 0.75 * s.stroke), 0.8)[..., None]
    horizon = np.clip(s.layers.camera.horizon_y(), 0.25 * side, 0.8 * side)
    rows = (np.arange(side, dtype=np.float32) - horizon) / side
    dusk = np.exp(-np.square(rows / 0.22))[:, None, None]
    place = blur(s.ground @ LUMA, 1.5 * unit)[..., None]
    night = f32((0.03, 0.025, 0.075)) + f32((0.09, 0.03, 0.12)) * dusk
    night = np.broadcast_to(night, hue.shape) * (0.6 + 0.8 * place)
    body = hue * (0.05 + 0.12 * s.soft_tone[..., None])
    image = s.over(night.astype(np.float32), body)
    light = color * tube
    halo = blur(light, 4.5 * unit) * 1.0 + blur(light, 15 * unit) * 1.1
    image = image + halo
    return mix(image, np.clip(color * 0.75 + 0.30, 0, 1), tube)
