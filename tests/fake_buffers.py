"""Layers of capsule people, made without the body renderer, to test the painter on its own."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from humansd.pose.people import People
from humansd.synthetic import buffers as bf
from humansd.synthetic import plan as pl

LIGHT = np.array([-0.45, 0.65, 0.61], np.float32)
# Capsule: two joints, radius as a share of the height, material; long sleeves, trousers, shoes.
PARTS = (
    ("hip_l", "knee_l", 0.050, bf.BOTTOM), ("knee_l", "foot_l", 0.036, bf.BOTTOM),
    ("foot_l", "toe_l", 0.028, bf.SHOES),
    ("hip_r", "knee_r", 0.050, bf.BOTTOM), ("knee_r", "foot_r", 0.036, bf.BOTTOM),
    ("foot_r", "toe_r", 0.028, bf.SHOES),
    ("hip", "hip", 0.078, bf.BOTTOM), ("chest", "belly", 0.088, bf.TOP), ("sh_l", "sh_r", 0.045, bf.TOP),
    ("neck", "head", 0.030, bf.SKIN), ("head", "head", 0.062, bf.SKIN), ("crown", "crown", 0.060, bf.HAIR),
    ("sh_l", "el_l", 0.034, bf.TOP), ("el_l", "wr_l", 0.027, bf.SKIN), ("wr_l", "wr_l", 0.032, bf.SKIN),
    ("sh_r", "el_r", 0.034, bf.TOP), ("el_r", "wr_r", 0.027, bf.SKIN), ("wr_r", "wr_r", 0.032, bf.SKIN),
)  # fmt: skip


def make_plan(
    scene: str = "photo", place: str = "meadow", light: str = "day", colors: tuple[str, ...] = ("red",),
    bottoms: tuple[str, ...] = ("blue",), pattern: str = "plain",
) -> pl.ScenePlan:  # fmt: skip
    """A plan with one person per colour of the top."""
    people = tuple(
        pl.PersonPlan(0, "woman", "adult", i % 6, "short", "brown", pl.Garment("sweater", c, pattern),
                      pl.Garment("trousers", b), pl.Garment("shoes", "brown"), None, "standing")
        for i, (c, b) in enumerate(zip(colors, bottoms, strict=True))
    )  # fmt: skip
    return pl.ScenePlan(scene, place, light, people)


def make_camera(side: int) -> bf.Camera:
    """Eye height, tilted down a little, 43 degrees wide."""
    return bf.Camera(1.5, 0.10, 1.25 * side, (side - 1) / 2, (side - 1) / 2)


def _joints(pose: int) -> dict[str, tuple[float, float, float]]:
    """Joint positions in body heights: x, y up from the floor, z towards the viewer."""
    rng = np.random.default_rng([pose, 3])
    out: dict[str, tuple[float, float, float]] = {
        "hip": (0, 0.52, 0), "belly": (0, 0.62, 0), "chest": (0, 0.74, 0), "neck": (0, 0.83, 0),
        "head": (0, 0.92, 0), "crown": (0, 0.95, -0.012),
    }  # fmt: skip
    for tag, sign in (("l", 1), ("r", -1)):
        a, b = rng.uniform(-0.2, 2.6), rng.uniform(-0.3, 1.6)
        sh = (sign * 0.105, 0.80, 0.0)
        el = (sh[0] + sign * 0.16 * np.sin(a), sh[1] - 0.16 * np.cos(a), 0.05)
        wr = (el[0] + sign * 0.15 * np.sin(a + b), el[1] - 0.15 * np.cos(a + b), 0.10)
        spread = rng.uniform(0.02, 0.45)
        hip = (sign * 0.055, 0.50, 0.0)
        knee = (hip[0] + sign * 0.24 * np.sin(spread), hip[1] - 0.24 * np.cos(spread), 0.04)
        foot = (knee[0] + sign * 0.05, knee[1] - 0.23, 0.0)
        toe = (foot[0] + sign * 0.05, foot[1] - 0.01, 0.06)
        out |= {f"{n}_{tag}": v for n, v in zip(("sh", "el", "wr", "hip", "knee", "foot", "toe"),
                                                (sh, el, wr, hip, knee, foot, toe), strict=True)}  # fmt: skip
    return out


@lru_cache(maxsize=64)
def _geometry(n: int, side: int, pose: int, height: float) -> tuple[np.ndarray, ...]:
    """Depth, normal, person, material of `n` capsule people."""
    camera = make_camera(side)
    depth = np.full((side, side), np.inf, np.float32)
    normal = np.zeros((side, side, 3), np.float32)
    person = np.zeros((side, side), np.uint8)
    material = np.zeros((side, side), np.uint8)
    tall = height * side
    metres = 1.7 / tall
    away = camera.focal_px * metres
    for i in range(n):
        middle, ground = side * (i + 1) / (n + 1), side * 0.92
        joints = _joints(pose * 3 + i)
        for first, second, radius, code in PARTS:
            a, b = np.array(joints[first]), np.array(joints[second])
            ax, ay, bx, by = (
                middle + a[0] * tall,
                ground - a[1] * tall,
                middle + b[0] * tall,
                ground - b[1] * tall,
            )
            reach = radius * tall
            top, left = (max(int(min(p) - reach) - 1, 0) for p in ((ay, by), (ax, bx)))
            box = slice(top, int(max(ay, by) + reach) + 2), slice(left, int(max(ax, bx) + reach) + 2)
            grid_y, grid_x = np.mgrid[:side, :side].astype(np.float32)[:, box[0], box[1]]
            length = max((bx - ax) ** 2 + (by - ay) ** 2, 1e-6)
            t = np.clip(((grid_x - ax) * (bx - ax) + (grid_y - ay) * (by - ay)) / length, 0, 1)
            off_x, off_y = grid_x - ax - t * (bx - ax), grid_y - ay - t * (by - ay)
            inside = np.square(reach) - off_x * off_x - off_y * off_y
            front = np.sqrt(np.maximum(inside, 0))
            near = away - ((a[2] + t * (b[2] - a[2])) * tall + front) * metres
            cover = (inside > 0) & (near < depth[box])
            depth[box][cover] = near[cover]
            normal[box][cover] = np.stack([off_x, -off_y, front], -1)[cover] / reach
            person[box][cover], material[box][cover] = i + 1, code
    return depth, normal, person, material


def make_buffers(plan: pl.ScenePlan, side: int = 256, pose: int = 0, height: float = 0.78) -> bf.Buffers:
    """Buffers (side x side) of `plan`'s people standing in a row, each `height` of the image tall."""
    depth, normal, person, material = _geometry(len(plan.people), side, pose, height)
    table = np.zeros((len(plan.people) + 1, 10, 3), np.float32)
    for i, who in enumerate(plan.people):
        table[i + 1, bf.SKIN] = pl.SKINS[who.skin]
        table[i + 1, bf.HAIR] = pl.HAIR_COLORS[who.hair_color]
        for code, garment in ((bf.TOP, who.top), (bf.BOTTOM, who.bottom), (bf.SHOES, who.shoes)):
            table[i + 1, code] = pl.COLORS[garment.color] if garment else 0
    shade = np.clip(0.42 + 0.75 * np.maximum(normal @ LIGHT, 0), 0.25, 1.25).astype(np.float32)
    shade[person == 0] = 1.0
    squash = np.array([[1, -0.5, 0.46 * side], [0, 0.3, 0.644 * side]], np.float32)
    shadow = cv2.warpAffine((person > 0).astype(np.float32), squash, (side, side))
    shadow = cv2.GaussianBlur(shadow, (0, 0), side / 128) * 0.6
    people = People.empty((side // 2, side // 2))
    albedo = table[person, material] / 255
    return bf.Buffers(albedo, shade, normal, depth, person, material, shadow, LIGHT, make_camera(side), people)
