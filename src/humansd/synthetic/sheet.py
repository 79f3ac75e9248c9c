"""The painter's working sheet: figures, lines and ground of one image, prepared once for every style."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from humansd.synthetic import blend
from humansd.synthetic import plan as vocabulary
from humansd.synthetic.buffers import EYE, MOUTH, NOTHING, SKIN, Buffers
from humansd.synthetic.scenery import FIGURE_LIGHT, paint_background
from humansd.synthetic.textures import f32

LUMA = f32((0.299, 0.587, 0.114))


@dataclass(eq=False)
class Sheet:
    """Layers (R,R[,3]) float32 sRGB 0..1 that styles read but never change, each made on first use."""

    plan: vocabulary.ScenePlan
    layers: Buffers
    rng: np.random.Generator

    @property
    def side(self) -> int:
        """R, pixels of the super-sampled image."""
        return int(self.layers.person.shape[0])

    @property
    def unit(self) -> float:
        """Pixels per 1/256 of the image: lengths are given in these units."""
        return self.side / 256

    @cached_property
    def figure(self) -> np.ndarray:
        """Where somebody or something they hold or sit on is: bool (R,R)."""
        return self.layers.material != NOTHING

    @cached_property
    def thing(self) -> np.ndarray:
        """Where something stands that belongs to nobody: bool (R,R)."""
        return self.figure & (self.layers.person == 0)

    @cached_property
    def cover(self) -> np.ndarray:
        """`figure` as float (R,R,1)."""
        return self.figure.astype(np.float32)[..., None]

    @cached_property
    def stroke(self) -> float:
        """Natural outline width in pixels, following the size of the figures."""
        share = float((self.layers.person > 0).mean()) / max(len(self.plan.people), 1)
        return float(np.clip(0.034 * np.sqrt(share) * self.side, 1.7 * self.unit, 4.2 * self.unit))

    @cached_property
    def tint(self) -> np.ndarray:
        """Colour of the light on the figures."""
        light = "day" if self.plan.place in vocabulary.INDOOR else self.plan.light
        return f32(FIGURE_LIGHT[light])

    @cached_property
    def ground(self) -> np.ndarray:
        """The place without people and without their shadow."""
        depth = self.layers.depth[self.figure]
        depth = depth[np.isfinite(depth)]
        behind = float(depth.max()) + 1.5 if depth.size else 6.0
        return paint_background(self.plan, self.layers.camera, self.side, self.rng, max(behind, 4.0))

    @cached_property
    def shadow(self) -> np.ndarray:
        """Light left by the figures' shadow on the floor, 0.5..1 (R,R,1)."""
        strength = {"day": 0.55, "sunset": 0.50, "night": 0.40, "cloudy": 0.35}[self.plan.light]
        return 1 - strength * np.clip(self.layers.shadow, 0, 1)[..., None]

    @cached_property
    def tone(self) -> np.ndarray:
        """Shade with the exposure set on the figures: mean about 0.97 on them, 0.45..1.2 (R,R)."""
        shade = self.layers.shade
        mean = float(shade[self.figure].mean()) if self.figure.any() else 1.0
        return np.clip(shade * np.clip(0.97 / max(mean, 1e-3), 0.7, 1.7), 0.45, 1.2).astype(np.float32)

    @cached_property
    def soft_tone(self) -> np.ndarray:
        """`tone` without fine relief, for washes and steps of shade (R,R)."""
        radius = 0.9 * self.stroke
        weight = cv2.GaussianBlur(self.cover[..., 0], (0, 0), radius)
        return cv2.GaussianBlur(self.tone * self.cover[..., 0], (0, 0), radius) / np.maximum(weight, 1e-3)

    @cached_property
    def regions(self) -> np.ndarray:
        """Person * 16 + material, eyes and mouth counted as skin: uint8 (R,R), 0 nobody."""
        material = self.layers.material.copy()
        material[(material == EYE) | (material == MOUTH)] = SKIN
        return (self.layers.person * 16 + material).astype(np.uint8)

    @cached_property
    def folds(self) -> np.ndarray:
        """Where one part of a figure passes before another (a jump in depth): bool (R,R), thin."""
        depth: np.ndarray = np.where(np.isfinite(self.layers.depth), self.layers.depth, 0).astype(np.float32)
        depth = cv2.medianBlur(depth, 5)  # fingers would make a blot
        jump = depth - cv2.erode(depth, np.ones((3, 3), np.uint8))
        return (jump > 0.085) & self._core

    def contour(self, width: float) -> np.ndarray:
        """Line around people (and between them), `width` pixels, mostly outside of them: 0..1 (R,R)."""
        edges = cv2.morphologyEx(_calm(self._people), cv2.MORPH_GRADIENT, _disc(1)) > 0
        return self._line(edges, width, 0.35)

    def outline(self, width: float) -> np.ndarray:
        """Lines between the pieces of cloth, skin and hair of a figure and along folds: 0..1 (R,R)."""
        edges = cv2.morphologyEx(_calm(self.regions), cv2.MORPH_GRADIENT, _disc(1)) > 0
        return self._line((edges & self._core) | self.folds, width, 1.0)

    def drawing(self, width: float, inner: float = 0.6) -> np.ndarray:
        """`contour` at full and `outline` at `inner` width together: 0..1 (R,R)."""
        return np.maximum(self.contour(width), self.outline(width * inner))

    @cached_property
    def _people(self) -> np.ndarray:
        return np.where(self.figure, self.layers.person + np.uint8(1), 0).astype(np.uint8)

    @cached_property
    def _core(self) -> np.ndarray:
        """The figures without their outermost pixels, for the gradient reaches one pixel to either side."""
        return cv2.erode(self.figure.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0

    def _line(self, edges: np.ndarray, width: float, inward: float) -> np.ndarray:
        """`edges` grown to `width`; on figures only by the share `inward`, which keeps thin limbs visible."""
        thin: np.ndarray = edges.astype(np.float32)
        radius = (width - 2) / 2  # a gradient is two pixels wide
        if inward < 1:
            grown = np.where(self.figure, _grow(thin, radius * inward), _grow(thin, radius * (2 - inward)))
        else:
            grown = _grow(thin, radius)
        return cv2.GaussianBlur(grown, (0, 0), 0.55 * max(self.unit, 0.6))

    @cached_property
    def lit(self) -> np.ndarray:
        """Figures in the light of the place."""
        made: np.ndarray = blend.lit(self.layers.albedo, self.tone, self.tint)
        return made

    def cel(self, steps: tuple[float, ...] = (0.72, 1.0), cuts: tuple[float, ...] = (0.84,)) -> np.ndarray:
        """Figures in flat colour with stepped shade: `steps[i]` where the soft tone lies between the cuts."""
        level = f32(steps)[np.digitize(self.soft_tone, cuts)]
        # Light cloth is shaded less, or white would turn grey.
        made: np.ndarray = blend.stepped(self.layers.albedo, level, np.sqrt(self.tint))
        return made

    def separate(self, ground: np.ndarray, amount: float = 0.14) -> np.ndarray:
        """`ground` made darker around light figures and lighter around dark ones, so that they stand out.

        The soft halo follows Luft et al. 2006, "Image enhancement by unsharp masking the depth buffer".
        """
        small = cv2.resize(self.cover[..., 0], (64, 64), interpolation=cv2.INTER_AREA)
        value = cv2.resize((self.lit @ LUMA) * self.cover[..., 0], (64, 64), interpolation=cv2.INTER_AREA)
        back = cv2.resize(ground @ LUMA, (64, 64), interpolation=cv2.INTER_AREA)
        halo, seen = (cv2.GaussianBlur(a, (0, 0), 3.0) for a in (small, value))
        gap = seen / np.maximum(halo, 1e-3) - back
        push = -np.tanh(gap * 18) * np.exp(-np.square(gap / 0.4)) * np.minimum(halo * 2.0, 1) * amount
        push = cv2.resize(push.astype(np.float32), (self.side, self.side), interpolation=cv2.INTER_LINEAR)
        made: np.ndarray = blend.pushed(f32(ground), push)
        return made

    def over(self, ground: np.ndarray, figure: np.ndarray) -> np.ndarray:
        """`figure` where somebody is, else `ground`."""
        return mix(ground, figure, self.cover)


def _calm(labels: np.ndarray) -> np.ndarray:
    """Label map without details of a pixel or two."""
    return cv2.medianBlur(labels, 5 if labels.shape[0] >= 400 else 3)


def _grow(mask: np.ndarray, radius: float) -> np.ndarray:
    """`mask` dilated by `radius` pixels; below half a pixel, itself."""
    return cv2.dilate(mask, _disc(radius)) if radius >= 0.5 else mask


def _disc(radius: float) -> np.ndarray:
    """Structuring element of that radius (at least half a pixel)."""
    n = max(int(np.ceil(radius - 1e-6)), 1)
    y, x = np.mgrid[-n : n + 1, -n : n + 1]
    return (np.hypot(x, y) <= radius + 0.45).astype(np.uint8)


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur; large ones are done at a quarter of the size."""
    if sigma < 4:
        return cv2.GaussianBlur(image, (0, 0), max(sigma, 0.3))
    height, width = image.shape[:2]
    small = cv2.resize(image, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 4)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def saturate(image: np.ndarray, amount: float) -> np.ndarray:
    """Colours moved away from (amount > 1) or towards grey of the same luma."""
    if image.ndim == 3 and image.dtype == np.float32:
        made: np.ndarray = blend.saturated(image, np.float32(amount))
        return made
    grey = (image @ LUMA)[..., None]
    return grey + (image - grey) * amount


def mix(below: np.ndarray, above: np.ndarray | tuple[float, float, float], share: np.ndarray | float) -> np.ndarray:
    """`above` over `below` with cover `share`, a number or (R,R) or (R,R,1)."""
    color = f32(above)
    if isinstance(share, np.ndarray) and share.ndim >= 2 and below.dtype == np.float32:
        cover = f32(share[..., 0] if share.ndim == 3 and share.shape[2] == 1 else share)
        if cover.shape == below.shape[:2] and color.shape in ((3,), below.shape):
            made: np.ndarray = (blend.mix_flat if color.ndim == 1 else blend.mix_images)(below, color, cover)
            return made
    if isinstance(share, np.ndarray) and share.ndim == 2:
        share = share[..., None]
    return below + (color - below) * f32(share)


def vignette(side: int, strength: float) -> np.ndarray:
    """Fall-off of light to the corners: (R,R,1), 1 in the middle, 1 - strength in the corners."""
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    return (1 - strength * np.clip((axis[:, None] ** 2 + axis[None, :] ** 2) / 2, 0, 1) ** 1.5)[..., None]


def inset(side: int) -> np.ndarray:
    """Distance to the nearest border of the image in 1/256 of its side: (R,R)."""
    axis = np.minimum(np.arange(side), side - 1 - np.arange(side)).astype(np.float32) * (256 / side)
    return np.minimum(axis[:, None], axis[None, :])
