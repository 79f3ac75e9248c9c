"""Where the figures stand: floor in perspective, and what lies behind it, calm enough to be a background.

The floor is the plane y = 0 seen by `buffers.Camera`; a point of it is found from the camera ray of its
pixel. What stands behind (wall, curtain, trees, skyline, mountains) begins `behind_m` metres in front of the
camera, so that it never cuts through a figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from humansd.synthetic import blend
from humansd.synthetic.buffers import Camera
from humansd.synthetic.horizons import FARS, WALLS
from humansd.synthetic.plan import INDOOR, PLACES, ScenePlan
from humansd.synthetic.textures import f32, noise

RGB = tuple[float, float, float]
# Light -> what it does to the colour of the ground and to the colour of the figures.
GROUND_LIGHT: dict[str, RGB] = {
    "day": (1.0, 1.0, 1.0), "sunset": (0.92, 0.78, 0.68),
    "night": (0.36, 0.41, 0.56), "cloudy": (0.84, 0.87, 0.91),
}  # fmt: skip
FIGURE_LIGHT: dict[str, RGB] = {
    "day": (1.0, 1.0, 1.0), "sunset": (1.0, 0.90, 0.78),
    "night": (0.80, 0.85, 0.97), "cloudy": (0.94, 0.96, 0.99),
}  # fmt: skip
# Light -> sky at the top of the image and at the horizon.
SKIES: dict[str, tuple[RGB, RGB]] = {
    "day": ((0.42, 0.62, 0.85), (0.76, 0.85, 0.91)),
    "sunset": ((0.44, 0.40, 0.60), (0.95, 0.66, 0.44)),
    "night": ((0.06, 0.08, 0.18), (0.17, 0.22, 0.38)),
    "cloudy": ((0.58, 0.63, 0.69), (0.76, 0.79, 0.81)),
}
GROUND: dict[str, RGB] = {
    "meadow": (0.43, 0.59, 0.28), "beach": (0.78, 0.68, 0.50), "snow": (0.72, 0.78, 0.86),
    "desert": (0.80, 0.59, 0.37), "city": (0.54, 0.54, 0.56), "forest": (0.41, 0.38, 0.25),
    "mountains": (0.52, 0.51, 0.42), "lake": (0.47, 0.55, 0.34), "room": (0.60, 0.43, 0.28),
    "stage": (0.38, 0.27, 0.20), "studio": (0.60, 0.61, 0.63), "brick_wall": (0.50, 0.50, 0.50),
    "gym": (0.76, 0.58, 0.36),
}  # fmt: skip
FAR_LIMIT_M = 400.0


@dataclass(frozen=True, eq=False)
class View:
    """Geometry of one background, `size` pixels square; rows from `floor_row` on show the floor."""

    camera: Camera
    size: int
    behind_m: float
    walled: bool
    light: str
    rng: np.random.Generator

    @cached_property
    def _slopes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Per column x, per row y (up) and per row z (ahead) of the camera rays."""
        c = self.camera
        a = (np.arange(self.size) - c.cx) / c.focal_px
        b = -(np.arange(self.size) - c.cy) / c.focal_px
        cos, sin = np.cos(c.pitch_rad), np.sin(c.pitch_rad)
        return a, b * cos - sin, b * sin + cos

    @cached_property
    def floor_row(self) -> int:
        """First row that shows the floor: below the horizon, and in front of the wall where there is one."""
        _, up, ahead = self._slopes
        limit = self.behind_m if self.walled else FAR_LIMIT_M
        hits = (up < -1e-6) & (self.camera.height_m * ahead <= limit * -up)
        return int(np.argmax(hits)) if hits.any() else self.size

    @cached_property
    def floor(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Floor rows: x metres (F,R), z metres ahead (F,1), depth of a pixel on the floor in metres (F,1)."""
        across, up, ahead = self._slopes
        t = (self.camera.height_m / np.maximum(-up[self.floor_row :], 1e-6))[:, None]
        x = (t * across).astype(np.float32)
        z = (t * ahead[self.floor_row :, None]).astype(np.float32)
        foot = t * t / (self.camera.height_m * self.camera.focal_px)
        return x, z, foot.astype(np.float32)

    @cached_property
    def wall(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Wall rows: x metres (W,R) and height metres (W,1) on the wall, metres per pixel."""
        across, up, ahead = self._slopes
        t = (self.behind_m / np.maximum(ahead[: self.floor_row], 0.05))[:, None]
        x = (t * across).astype(np.float32)
        y = (self.camera.height_m + t * up[: self.floor_row, None]).astype(np.float32)
        return x, y, self.behind_m / self.camera.focal_px

    @cached_property
    def sky(self) -> tuple[np.ndarray, np.ndarray]:
        """Above the floor: azimuth (R,) and elevation (W,1), both as tangents."""
        across, up, ahead = self._slopes
        return across, (up / np.maximum(ahead, 0.05))[: self.floor_row, None]


def paint_background(
    plan: ScenePlan, camera: Camera, size_px: int, rng: np.random.Generator, behind_m: float = 9.0
) -> np.ndarray:
    """The place and light of `plan` without its people: float32 (size_px,size_px,3) sRGB in 0..1.

    `camera` is in pixels of the same size; `behind_m` is the distance in metres of walls and shore lines,
    beyond every figure. Deterministic given `rng`. Raises ValueError for a place or light that is not in the
    vocabulary of plan.py.
    """
    if plan.place not in PLACES or plan.light not in SKIES:
        raise ValueError(
            f"ScenePlan: place {plan.place!r}, light {plan.light!r} cannot be painted; "
            f"use a place of {', '.join(PLACES)} and a light of {', '.join(SKIES)}"
        )
    walled = plan.place in INDOOR or plan.place == "brick_wall"
    light = "day" if plan.place in INDOOR else plan.light
    view = View(camera, size_px, behind_m, walled, light, rng)
    image = np.empty((size_px, size_px, 3), np.float32)
    mood = GROUND_LIGHT[light]
    if walled:
        wall, base = WALLS[plan.place](view, GROUND[plan.place])
        image[: view.floor_row] = wall * f32(mood)
        haze = None
    else:
        base = GROUND[plan.place]
        top, low = SKIES[light]
        haze = f32(low)
        sky = _sky(view, f32(top), haze)
        if view.floor_row:
            image[: view.floor_row] = FARS[plan.place](view, sky, haze, f32(mood))
    image[view.floor_row :] = _floor(plan.place, view, f32(base), f32(mood), haze)
    return np.clip(image, 0, 1, out=image)


def _sky(view: View, top: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Gradient with soft clouds; sun at sunset, moon and a few stars at night: (W,R,3)."""
    azimuth, elevation = view.sky
    height = np.clip(elevation / 0.55, 0, 1) ** 0.7
    sky = low + (top - low) * height[..., None]
    sky = np.repeat(sky.astype(np.float32), view.size, axis=1)
    if not sky.shape[0]:
        return sky
    rng = view.rng
    cloud = noise(256, 2, 24, 1.6, 2.5, seed=21)
    shift = rng.uniform(0, 256, 2)
    grid_x = np.broadcast_to(f32(azimuth * 150 + shift[0]), sky.shape[:2])
    grid_y = np.broadcast_to(f32(-elevation * 260 + shift[1]), sky.shape[:2])
    puff = cv2.remap(cloud, grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    amount, tone = {
        "day": (0.35, (0.93, 0.95, 0.97)), "sunset": (0.30, (0.86, 0.50, 0.46)),
        "night": (0.18, (0.26, 0.30, 0.44)), "cloudy": (0.55, (0.82, 0.84, 0.86)),
    }[view.light]  # fmt: skip
    cover = (np.clip(puff * 0.6 + 0.1, 0, 1) * amount)[..., None]
    sky += (f32(tone) - sky) * cover
    if view.light in ("sunset", "night"):
        _disc(sky, view, (1.0, 0.86, 0.62) if view.light == "sunset" else (0.86, 0.88, 0.92))
    return sky


def _disc(sky: np.ndarray, view: View, color: RGB) -> None:
    azimuth, elevation = view.sky
    spot = view.rng.uniform(-0.32, 0.32), view.rng.uniform(0.06, 0.14) if view.light == "sunset" else 0.22
    radius = 0.035
    away = np.hypot(azimuth[None, :] - spot[0], elevation - spot[1])
    edge = np.clip((radius - away) * view.camera.focal_px + 0.5, 0, 1)
    strength, reach = (0.45, 0.16) if view.light == "sunset" else (0.15, 0.09)
    glow = strength * np.exp(-np.square(away / reach))
    sky += (f32(color) - sky) * np.maximum(edge * 0.95, glow)[..., None].astype(np.float32)


def _floor(place: str, view: View, base: np.ndarray, mood: np.ndarray, haze: np.ndarray | None) -> np.ndarray:
    """Floor rows (F,R,3): the ground's colour, its texture fading with distance, haze towards the horizon."""
    x, z, foot = view.floor
    if not x.shape[0]:
        return np.empty((0, view.size, 3), np.float32)
    rough = _grain(view, x, z, foot, *GRAINS.get(place, (4.0, 0.05, 1.0)))
    if place in JOINTS:
        rough = rough + _joints(x + view.rng.uniform(0, 2), z, foot, *JOINTS[place])
    far = f32((1 - np.exp(-z[:, 0] / 70.0)) * 0.9) if haze is not None else np.zeros(len(z), np.float32)
    mist = f32((0, 0, 0)) if haze is None else haze
    if place not in ("gym", "stage", "beach", "lake"):
        full = np.ascontiguousarray(np.broadcast_to(base, (*x.shape, 3)))
        made: np.ndarray = blend.grounded(full, f32(rough), mood, mist, far)
        return made
    ground = base * (1.0 + rough[..., None])
    if place == "gym":
        ground = _court(ground, view, x, z, foot)
    elif place == "stage":
        pool = np.exp(-np.square(x / 2.6) - np.square((z - 0.62 * view.behind_m) / 2.6))
        ground = ground * (0.75 + 0.85 * pool[..., None])
    elif place in ("beach", "lake"):
        ground = _water(place, view, ground, x, z, foot)
    water: np.ndarray = blend.grounded(f32(ground), np.zeros(x.shape, np.float32), mood, mist, far)
    return water


# Place -> metres of one texture period, contrast, stretch (ripples across the view when > 1).
GRAINS: dict[str, tuple[float, float, float]] = {
    "meadow": (3.0, 0.09, 1.0), "beach": (5.0, 0.035, 2.0), "snow": (6.0, 0.03, 1.5),
    "desert": (5.0, 0.06, 5.0), "city": (5.0, 0.03, 1.0), "forest": (3.0, 0.13, 1.0),
    "mountains": (4.0, 0.09, 1.0), "lake": (3.0, 0.08, 1.0), "room": (3.0, 0.05, 0.12),
    "stage": (3.0, 0.05, 0.12),
    "studio": (9.0, 0.015, 1.0), "brick_wall": (5.0, 0.04, 1.0), "gym": (3.0, 0.03, 0.12),
}  # fmt: skip
# Place -> board or slab width along x and length along z in metres, darkness of the joint.
JOINTS: dict[str, tuple[float, float, float]] = {
    "room": (0.22, 0.0, 0.22), "stage": (0.26, 0.0, 0.25), "gym": (0.18, 0.0, 0.08),
    "city": (1.0, 1.0, 0.16), "brick_wall": (0.8, 0.8, 0.14),
}  # fmt: skip


def _grain(
    view: View, x: np.ndarray, z: np.ndarray, foot: np.ndarray, period: float, contrast: float, stretch: float
) -> np.ndarray:
    """Texture of the ground (F,R), fading where a pixel covers more than the texture's grain."""
    tile = noise(256, 2, 20, 1.0, stretch, seed=31)
    move = view.rng.uniform(0, 255, 2)
    scale = 255.0 / period
    u = np.mod(x * scale + f32(move[0]), 255).astype(np.float32)
    v = np.mod(np.broadcast_to(z, x.shape) * scale + f32(move[1]), 255).astype(np.float32)
    fade = contrast / (1.0 + np.square(foot * 14.0 / period))
    return cv2.remap(tile, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP) * fade.astype(np.float32)


def _joints(x: np.ndarray, z: np.ndarray, foot: np.ndarray, width: float, length: float, depth: float) -> np.ndarray:
    """Dark joints between boards (length 0: endless along z) or slabs, anti-aliased."""
    lean = np.maximum(foot * 0.5, 0.006)
    side = np.abs(np.mod(x / width + 0.5, 1.0) - 0.5) * width
    seen = np.clip(0.02 / lean, 0, 1)
    lines = np.exp(-np.square(side / (0.012 + 0.35 * lean))) * seen * np.clip(width / (3 * lean), 0, 1)
    if length:
        along = np.abs(np.mod(z / length + 0.5, 1.0) - 0.5) * length
        row = np.exp(-np.square(along / (0.012 + 0.7 * foot))) * np.clip(length / (6 * foot), 0, 1)
        lines = np.maximum(lines, row)
    return -depth * lines


def _court(ground: np.ndarray, view: View, x: np.ndarray, z: np.ndarray, foot: np.ndarray) -> np.ndarray:
    """Painted lines of a sports hall on the floor."""
    aside = view.rng.uniform(-2.0, 2.0)
    across = np.abs(z - 0.75 * view.behind_m)
    for color, line in (((0.24, 0.38, 0.62), np.abs(x - aside)), ((0.80, 0.80, 0.78), across)):
        paint = np.clip((0.05 - line) / np.maximum(foot, 0.01) + 0.5, 0, 1) * 0.7
        ground = ground + (f32(color) - ground) * paint[..., None]
    return ground


# Place -> colour of the water at the shore and far out.
WATERS: dict[str, tuple[RGB, RGB]] = {
    "beach": ((0.50, 0.68, 0.68), (0.24, 0.46, 0.62)),
    "lake": ((0.42, 0.55, 0.58), (0.40, 0.56, 0.68)),
}


def _water(place: str, view: View, ground: np.ndarray, x: np.ndarray, z: np.ndarray, foot: np.ndarray) -> np.ndarray:
    """Sea or lake behind the figures, with a soft wavy shore line."""
    shore = view.behind_m + 1.0 + 0.5 * np.sin(x * 0.35 + view.rng.uniform(0, 6)) + 0.2 * np.sin(x * 1.1)
    wet = np.clip((z - shore) / np.maximum(foot * 1.5, 0.3), 0, 1)[..., None]
    deep = (np.clip((z - view.behind_m) / 40.0, 0, 1) ** 0.5)[..., None]
    near, far = WATERS[place]
    water = f32(near) + (f32(far) - f32(near)) * deep
    waves = _grain(view, x, z, foot, 14.0, 0.10, 5.0)[..., None]
    out = ground + (water * (1 + waves) - ground) * wet
    if place == "beach":
        foam = np.exp(-np.square((z - shore - 0.25) / np.maximum(foot, 0.35)))[..., None] * 0.45
        out = out + (f32((0.88, 0.91, 0.92)) - out) * foam
    return out
