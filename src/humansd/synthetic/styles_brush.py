"""Styles made of paint, ink and glass."""

from __future__ import annotations

import cv2
import numpy as np

from humansd.synthetic.sheet import LUMA, Sheet, blur, inset, mix, saturate, vignette
from humansd.synthetic.textures import bristles, cells, f32, noise, shifted


def ink_painting(s: Sheet) -> np.ndarray:
    """Sumi-e: grey washes and a few brush lines on rice paper, mist over the place, a red seal."""
    side, unit = s.side, s.unit
    fibre = shifted(noise(side, 6, 70, 0.5, 2.0, seed=71), s.rng)[..., None]
    paper = f32((0.94, 0.915, 0.85)) * (1 + 0.012 * fibre)
    luma = blur(s.ground @ LUMA, 3.0 * unit)
    mist = np.clip(0.75 + 0.35 * shifted(noise(side, 1, 4, 1.2, 2.5, seed=72), s.rng), 0.2, 1.2)
    place = np.clip((max(float(luma.mean()), 0.25) + 0.10 - luma) * 1.0, 0, 0.30) * mist
    place = place + 0.35 * (1 - s.shadow[..., 0])
    dark = 1 - blur((s.layers.albedo @ LUMA) * s.cover[..., 0], 1.0 * unit)
    wash = 0.05 + 0.68 * np.clip(dark - 0.15, 0, 1) ** 1.5 + 0.55 * np.clip(1.0 - s.soft_tone, 0, 1)
    pool = 0.16 * (1 - blur(s.cover[..., 0], 3.0 * unit))
    wash = np.clip(wash + pool, 0.04, 0.86) * (1 + 0.07 * shifted(noise(side, 2, 20, 1.0, seed=73), s.rng))
    density = np.where(s.figure, wash, place * (1 - 0.7 * blur(s.cover[..., 0], 5 * unit)))
    density = blur(density.astype(np.float32), 0.8 * unit)
    dry = np.clip(1.15 + 0.40 * shifted(noise(side, 2, 14, 0.9, seed=74), s.rng), 0.5, 1)
    density = np.maximum(density, s.contour(1.55 * s.stroke) * dry * 0.92)
    density = np.maximum(density, s.outline(0.9 * s.stroke) * dry * 0.75)
    image = mix(paper, (0.09, 0.09, 0.11), density)
    top, left, length = (
        round(222 * unit),
        round((14 if s.rng.random() < 0.5 else 226) * unit),
        round(16 * unit),
    )
    seal = slice(top, top + length), slice(left, left + length)
    image[seal] = mix(image[seal], (0.75, 0.16, 0.12), 0.88)
    return image


def digital_art(s: Sheet) -> np.ndarray:
    """Vivid airbrush: glowing colours behind, smooth shade, coloured light on both rims, bloom."""
    side, unit = s.side, s.unit
    rows = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    above, below = ((0.16, 0.20, 0.52), (0.62, 0.30, 0.62)) if s.plan.light == "night" else (
        (0.25, 0.55, 0.85), (0.96, 0.62, 0.62))  # fmt: skip
    sheen = f32(above) + (f32(below) - f32(above)) * rows
    ground = saturate(mix(blur(s.ground, 5.0 * unit), sheen, 0.42), 1.30)
    ground = ground + _bokeh(s) * 0.22
    ground = s.separate(np.clip(ground, 0, 1), 0.20) * s.shadow
    normal = s.layers.normal
    tone = 0.5 * s.tone + 0.5 * s.soft_tone
    figure = saturate(s.layers.albedo, 1.22) * np.clip(tone, 0.5, 1.15)[..., None]
    rim = np.clip(1 - normal[..., 2], 0, 1) ** 2.2 * 0.55
    right = np.clip(0.5 + normal[..., 0], 0, 1)[..., None]
    colors = f32((0.30, 0.75, 1.0)) * right + f32((1.0, 0.45, 0.65)) * (1 - right)
    figure = figure + rim[..., None] * colors
    image = np.clip(s.over(ground, np.clip(figure, 0, 1)), 0, 1)
    bloom = blur(np.square(image), 8 * unit) * 0.16
    return 1 - (1 - image) * (1 - bloom * (1 - 0.6 * s.cover))


def _bokeh(s: Sheet) -> np.ndarray:
    """A few soft discs of light (R,R,3)."""
    canvas = np.zeros((64, 64, 3), np.float32)
    for _ in range(9):
        x, y, r = s.rng.integers(0, 64), s.rng.integers(0, 40), s.rng.integers(2, 6)
        color = s.rng.uniform(0.5, 1.0, 3)
        cv2.circle(canvas, (int(x), int(y)), int(r), tuple(float(c) for c in color), -1, cv2.LINE_AA)
    return cv2.resize(cv2.GaussianBlur(canvas, (0, 0), 0.8), (s.side, s.side), interpolation=cv2.INTER_LINEAR)


def _kuwahara(image: np.ndarray, radius: int) -> np.ndarray:
    """Mean of the calmest of four windows at each pixel (Kuwahara et al. 1976): flat dabs."""
    luma = image @ LUMA
    k = radius + 1
    best = np.full(luma.shape, np.inf, np.float32)
    out = np.empty_like(image)
    mean, power, color = (cv2.boxFilter(a, -1, (k, k)) for a in (luma, luma * luma, image))
    spread = power - mean * mean
    reach = (k + 1) // 2
    n = image.shape[0]
    pad = ((reach, reach), (reach, reach))
    spread = np.pad(spread, pad, mode="edge")
    color = np.pad(color, (*pad, (0, 0)), mode="edge")
    for dy in (0, 2 * reach):
        for dx in (0, 2 * reach):
            here = spread[dy : dy + n, dx : dx + n]
            calm = here < best
            best = np.where(calm, here, best)
            np.copyto(out, color[dy : dy + n, dx : dx + n], where=calm[..., None])
    return out


def oil_painting(s: Sheet) -> np.ndarray:
    """Dabs of thick paint: broad in the place, small on the figures; bristle relief lit from above."""
    side, unit = s.side, s.unit
    hair = shifted(bristles(side, 75), s.rng)
    dabs = shifted(noise(side, 8, 40, 0.5, seed=76), s.rng)
    ground = s.separate(s.ground, 0.2) * s.shadow
    ground = saturate(ground, 1.1) * (1 + 0.07 * dabs[..., None])
    figure = saturate(s.lit, 1.12) * (1 + 0.05 * dabs[..., None])
    coarse = cv2.resize(ground, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    coarse = _kuwahara(coarse, max(2, round(2.3 * unit)))
    image = s.over(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR), figure)
    image = _kuwahara(np.clip(image, 0, 1), max(2, round(0.55 * s.stroke)))
    image = mix(image, image * 0.55, s.drawing(0.8 * s.stroke, 0.6) * 0.55)
    height = (image @ LUMA) * 1.2 + 0.035 * hair
    slope = cv2.Sobel(height, -1, 1, 0, scale=0.125) + cv2.Sobel(height, -1, 0, 1, scale=0.125)
    return np.clip(image * (1 + 0.025 * hair[..., None]) + 0.6 * slope[..., None], 0, 1)


def watercolor(s: Sheet) -> np.ndarray:
    """Wet washes on white paper: pale place, pigment pooled at edges, granulation, ragged border."""
    side, unit = s.side, s.unit
    paper = f32((0.975, 0.965, 0.94))
    bloom = shifted(noise(side, 2, 9, 1.1, seed=77), s.rng)[..., None]
    ground = mix(saturate(blur(s.ground * s.shadow, 3.5 * unit), 1.25), paper, 0.48)
    ground = mix(ground, paper, np.clip(0.12 * bloom + 0.02, 0, 0.4))
    tone = 0.82 + 0.30 * (s.soft_tone[..., None] - 0.82)
    wash = saturate(s.layers.albedo, 1.12) * (tone + 0.12) * np.sqrt(s.tint)
    wash = mix(np.clip(wash, 0, 1), paper, np.clip(0.05 + 0.06 * bloom, 0, 0.25))
    spread = np.maximum(blur(s.cover[..., 0], 1.1 * unit), 1e-3)[..., None]
    wash = blur(wash * s.cover, 1.1 * unit) / spread
    pool = s.drawing(1.3 * s.stroke, 0.8)
    image = s.over(mix(ground, paper, s.contour(2.6 * s.stroke) * 0.85), wash)
    image = image * (1 - 0.38 * (pool * s.cover[..., 0])[..., None])
    grain = shifted(noise(side, 18, 80, 0.3, seed=78), s.rng)[..., None]
    image = image * (1 + 0.035 * grain * (1.1 - image))
    ragged = inset(side) + 4.0 * noise(side, 2, 20, 0.8, seed=79)
    return mix(image, paper, np.clip((17 - ragged) / 3.0, 0, 1))


def mural(s: Sheet) -> np.ndarray:
    """Old wall painting: flat faded paint, earth outlines, cracks and bare plaster beside the figures."""
    side, unit = s.side, s.unit
    rough = shifted(noise(side, 3, 30, 1.1, seed=81), s.rng)[..., None]
    plaster = f32((0.80, 0.73, 0.62)) * (1 + 0.035 * rough)
    ground = mix(saturate(blur(s.ground, 5.0 * unit), 0.9), plaster, 0.42)
    ground = s.separate(ground, 0.14) * np.where(s.shadow < 0.85, 0.86, 1.0).astype(np.float32)
    figure = mix(s.cel((0.80, 1.0), (0.82,)), plaster, 0.13)
    image = s.over(ground, np.clip(figure, 0, 1))
    image = mix(image, (0.24, 0.14, 0.10), s.drawing(1.1 * s.stroke, 0.7) * 0.92)
    image = image * (1 + 0.03 * rough)
    near = np.clip(blur(s.cover[..., 0], 4 * unit) * 2.5, 0, 1)
    bare = np.clip((shifted(noise(side, 2, 16, 1.1, seed=82), s.rng) - 1.3) * 8, 0, 1) * (1 - near)
    image = mix(image, plaster * 1.06, bare)
    _, border = cells(side, 4, 5)
    here = shifted(noise(side, 1, 6, 0.8, seed=83), s.rng)
    crack = np.clip(1.15 - border / (0.75 * unit), 0, 1) * np.clip(here * 2.5, 0, 1)
    crack = crack * (1 - 0.75 * near)
    return mix(image, (0.30, 0.23, 0.18), crack * 0.75)


def stained_glass(s: Sheet) -> np.ndarray:
    """Window: a pane for each piece of cloth or skin, pale panes behind, lead between, light through it."""
    side, unit = s.side, s.unit
    label, border = cells(side, 8, 7)
    move = tuple(int(v) for v in s.rng.integers(0, side, 2))
    label, border = (np.roll(a, move, (0, 1)) for a in (label, border))
    pane = _pane_means(s.ground, label, 64)
    pane = saturate(mix(pane, (0.86, 0.88, 0.80), 0.34), 1.45)
    pane = np.clip(pane + s.rng.uniform(-0.05, 0.05, (64, 3)).astype(np.float32), 0.16, 0.96)[label]
    glow = 1 + 0.09 * shifted(noise(side, 2, 14, 1.0, seed=84), s.rng)[..., None]
    shine = 1.08 * vignette(side, 0.25)
    ground = s.separate(np.clip(pane * glow * shine, 0, 1), 0.22)
    tone = 1.0 + 0.40 * (s.soft_tone[..., None] - 0.95)
    glass = np.clip(saturate(s.layers.albedo, 1.18) * tone * (0.5 + 0.5 * glow) + 0.02, 0, 1)
    lead = np.clip(1.5 - border / (1.1 * unit), 0, 1)
    ground = mix(ground, (0.07, 0.07, 0.08), lead * 0.62)
    halo = s.contour(3.4 * s.stroke)[..., None] * (1 - s.cover)
    ground = mix(ground, (0.93, 0.90, 0.74), halo * 0.9)
    image = s.over(ground, glass)
    image = mix(image, (0.06, 0.06, 0.07), s.drawing(1.7 * s.stroke, 0.7))
    return mix(image, (0.10, 0.10, 0.11), np.clip(6 - inset(side), 0, 1))


def _pane_means(image: np.ndarray, label: np.ndarray, count: int) -> np.ndarray:
    """Mean colour of each pane (count,3)."""
    flat = label.ravel()
    area = np.maximum(np.bincount(flat, minlength=count), 1)
    sums = [np.bincount(flat, image[..., c].ravel(), count) / area for c in range(3)]
    return np.stack(sums, -1).astype(np.float32)
