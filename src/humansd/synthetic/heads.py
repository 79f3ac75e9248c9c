"""Faces, hair and hats."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from humansd.synthetic import raster
from humansd.synthetic.body import Body, bank
from humansd.synthetic.buffers import HAIR, HAT, SKIN, TOP
from humansd.synthetic.plan import HAIR_COLORS, SKINS, Garment, PersonPlan
from humansd.synthetic.regions import bone_share, landmarks, region
from humansd.synthetic.wardrobe import Piece, cloth_row, clothe, layer_row, shell

# Hat -> profile from the rim upwards: (radius as a share of the skull's, height as a share of the crown's).
PROFILES = {
    "beanie": ((1.10, -0.22), (1.13, 0.0), (1.12, 0.35), (1.0, 0.75), (0.72, 1.05), (0.35, 1.2), (0.0, 1.24)),
    "cap": ((1.08, 0.0), (1.10, 0.3), (1.0, 0.72), (0.74, 1.0), (0.36, 1.12), (0.0, 1.14)),
    "hat": ((1.72, -0.04), (1.40, 0.0), (1.10, 0.02), (1.08, 0.5), (0.98, 1.2), (0.80, 1.32), (0.0, 1.30)),
}  # fmt: skip
THICKNESS = {"short": 0.012, "long": 0.014, "bun": 0.008, "curly": 0.034, "bald": 0.0}


@lru_cache(maxsize=1)
def face_marks() -> np.ndarray:
    """(6,3) for `raster._face_mark`: centres of eye, brow and mouth; half sizes of eye (and iris), brow, mouth
    (and the smallest z of a face), metres on the average body."""
    joint = bank().joints
    eye, nose = joint[1], joint[0]
    out = np.zeros((6, 3), np.float32)
    out[0] = eye + np.array([0.001, 0.0, 0])
    out[1] = eye + np.array([0.001, 0.021, 0])
    out[2] = (0, nose[1] - 0.038, 0)
    out[3] = (0.0150, 0.0062, 0.0060)
    out[4] = (0.019, 0.0040, 0)
    out[5] = (0.023, 0.0080, eye[2] - 0.035)
    return out


@lru_cache(maxsize=64)
def _skull(rest: Body) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre (3,) at the height of the hat line, half axes (x, z) and height of the crown above it."""
    shared = bank()
    joints = rest.points[shared.n :]
    head = rest.points[shared.blocks["skin"]][bone_share("skin", "head") > 0.6]
    line = float(joints[1:3, 1].mean()) + 0.042
    crown = head[head[:, 1] > line]
    low, high = crown.min(0), crown.max(0)
    centre = np.array([0.0, line, 0.5 * (low[2] + high[2])])
    return centre, np.array([0.5 * (high[0] - low[0]), 0.5 * (high[2] - low[2])]), float(high[1] - line)


def _grid(points: np.ndarray, closed: bool) -> np.ndarray:
    """Triangles of a (rows, columns, 3) grid of points."""
    rows, columns = points.shape[:2]
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns if closed else columns - 1), indexing="ij")
    a, b = i * columns + j, i * columns + (j + 1) % columns
    c, d = a + columns, b + columns
    both = [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([b, d, c], -1).reshape(-1, 3)]
    return np.concatenate(both).astype(np.int32)


def _loft(points: np.ndarray, row: np.ndarray, weights: dict[str, np.ndarray], bias: float, closed: bool) -> Piece:
    """A piece from a (rows, columns, 3) grid; `weights`: bone -> (rows,) share, up to 4 bones."""
    shared = bank()
    rows, columns = points.shape[:2]
    n = rows * columns
    index, weight = np.zeros((n, 4), np.int32), np.zeros((n, 4), np.float32)
    for k, (bone, share) in enumerate(weights.items()):
        index[:, k] = shared.bones.index(bone)
        weight[:, k] = np.repeat(share, columns)
    flat = points.reshape(-1, 3).astype(np.float32)
    across = np.stack([flat[:, 0] + 0.35 * flat[:, 2], flat[:, 1]], 1)
    return Piece(flat, _grid(points, closed), index, weight, np.ones(n, np.float32), flat, across, row, bias,
                 "loft", False)  # fmt: skip


def _hat(garment: Garment, rest: Body, rng: np.random.Generator) -> list[Piece]:
    centre, axes, height = _skull(rest)
    row = cloth_row(garment, HAT, rng, 0.1)
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    profile = np.array(PROFILES[garment.kind])
    tilt = 0.10 if garment.kind == "hat" else 0.16  # the back sits lower
    ring = np.stack([np.sin(angle), np.cos(angle)], 1)  # x, z
    grid = np.zeros((len(profile), len(angle), 3))
    grid[:, :, 0] = profile[:, :1] * (axes[0] + 0.004) * ring[:, 0]
    grid[:, :, 2] = profile[:, :1] * (axes[1] + 0.004) * ring[:, 1]
    grid[:, :, 1] = profile[:, 1:] * height + tilt * grid[:, :, 2] - 0.008
    head = {"head": np.ones(len(profile))}
    pieces = [_loft(grid + centre, row, head, 0.012, True)]
    if garment.kind == "cap":
        span = np.linspace(-1.15, 1.15, 13)
        visor = np.zeros((3, len(span), 3))
        for k, reach in enumerate((0.95, 1.0, 1.0)):
            forward = (0.0, 0.035, 0.07)[k] * np.cos(span)
            visor[k, :, 0] = reach * 1.06 * axes[0] * np.sin(span)
            visor[k, :, 2] = reach * 1.04 * axes[1] * np.cos(span) + forward
            visor[k, :, 1] = 0.004 + tilt * 0.5 * axes[1] - 0.18 * forward
        pieces.append(_loft(visor + centre, row, {"head": np.ones(3)}, 0.014, False))
    return pieces


def _bun(rest: Body, row: np.ndarray) -> Piece:
    centre, axes, height = _skull(rest)
    angle, polar = np.linspace(0, 2 * np.pi, 14, endpoint=False), np.linspace(0, np.pi, 8)
    ball = np.stack(
        [np.outer(np.sin(polar), np.cos(angle)), np.outer(np.cos(polar), np.ones(14)),
         np.outer(np.sin(polar), np.sin(angle))], -1,
    )  # fmt: skip
    place = centre + np.array([0, 0.86 * height, -0.72 * axes[1]])
    return _loft(place + ball * 0.043, row, {"head": np.ones(8)}, 0.004, True)


def _curtain(rest: Body, row: np.ndarray, rng: np.random.Generator) -> Piece:
    """Long hair falling over the back of the neck to the shoulder blades."""
    shared = bank()
    centre, axes, height = _skull(rest)
    shoulder = float(rest.points[shared.n + 5 : shared.n + 7, 1].mean())
    end = shoulder - float(rng.uniform(0.0, 0.14))
    fall = np.linspace(0, 1, 9)
    angle = np.linspace(-1.75, 1.75, 17) + np.pi  # about the back
    y = centre[1] + 0.35 * height + fall * (end - centre[1] - 0.35 * height)
    back = rest.loose[np.abs(rest.loose[:, 0]) < 0.09]
    grid = np.zeros((len(fall), len(angle), 3))
    for i, f in enumerate(fall):
        width = axes[0] * (1.10 + 0.22 * np.sin(np.pi * min(f, 0.8))) + 0.006
        depth = axes[1] * (1.10 - 0.10 * f) + 0.004
        grid[i, :, 0] = width * np.sin(angle) * (1 + 0.02 * np.sin(9 * angle))
        grid[i, :, 1] = y[i]
        grid[i, :, 2] = centre[2] + depth * np.cos(angle)
        behind = back[np.abs(back[:, 1] - y[i]) < 0.05, 2]
        if len(behind):
            grid[i, :, 2] = np.minimum(grid[i, :, 2], behind.min() - 0.03 + 0.05 * np.sin(angle) ** 2)
    follow = np.clip((fall - 0.35) / 0.5, 0, 1)
    return _loft(grid, row, {"head": 1 - follow, "neck01": follow * 0.4, "spine01": follow * 0.6}, 0.004, False)


@lru_cache(maxsize=1)
def _hairline() -> np.ndarray:
    """Cut (n,) of the scalp on the skin block: from the forehead over the ears to the nape."""
    joint = bank().joints
    paint = bank().paint[bank().blocks["skin"]]
    ears, eyes, top = joint[3:5].mean(0), joint[1:3].mean(0), landmarks()["top"]
    front = np.array([eyes[1] + 0.50 * (top - eyes[1]), eyes[2]])
    nape = np.array([ears[1] - 0.055, ears[2] - 0.07])
    slope = (front[0] - nape[0]) / (front[1] - nape[1])
    cut = paint[:, 1] - (nape[0] + slope * (paint[:, 2] - nape[1]))
    ear = np.hypot(paint[:, 1] - ears[1] + 0.004, paint[:, 2] - ears[2] + 0.008)
    ear = ear + 5.0 * (np.abs(paint[:, 0]) < 0.062)
    return np.where(bone_share("skin", "head", "neck") > 0.5, np.minimum(cut, ear - 0.036), -1.0)


def make_head(plan: PersonPlan, rest: Body, rng: np.random.Generator, skin_cut: np.ndarray) -> list[Piece]:
    """Skin (face, neck, hands, bare arms and shins), eyes, hair and hat."""
    skin = np.array(SKINS[plan.skin], np.float32) / 255
    hair = np.array(HAIR_COLORS[plan.hair_color], np.float32) / 255
    row = layer_row(raster.FACE, SKIN, skin, hair * 0.55)
    row[12:15] = (0.13, 0.08, 0.06)
    pieces = [
        shell(rest, "skin", skin_cut, row, 0.0, 0.0),
        shell(rest, "eyes", np.ones(len(region(rest, "eyes").arm)), row, 0.0, 0.0),
    ]
    strands = layer_row(raster.HAIRS, HAIR, hair)
    strands[11] = 0.8 if plan.hair_style == "curly" else 0.2
    cut = _hairline()
    if plan.hat is not None:
        pieces.extend(_hat(plan.hat, rest, rng))
        centre, _, _ = _skull(rest)
        points = rest.points[bank().blocks["skin"]]
        cut = np.minimum(cut, centre[1] + 0.1 * (points[:, 2] - centre[2]) + 0.004 - points[:, 1])
    if plan.hair_style == "bald":
        return pieces
    thickness = 0.003 + THICKNESS[plan.hair_style] * np.clip(cut / 0.045, 0, 1)
    pieces.append(shell(rest, "skin", cut, strands, thickness, 0.004))
    if plan.hair_style == "long":
        pieces.append(_curtain(rest, strands, rng))
    if plan.hair_style == "bun" and plan.hat is None:
        pieces.append(_bun(rest, strands))
    return pieces


def dress_person(plan: PersonPlan, rest: Body, rng: np.random.Generator) -> list[Piece]:
    """All surfaces of one clothed person in the rest pose of `rest`."""
    clothes, skin_cut = clothe(plan, rest, rng)
    return clothes + make_head(plan, rest, rng, skin_cut) + extras(plan, rest, rng)


def extras(plan: PersonPlan, rest: Body, rng: np.random.Generator) -> list[Piece]:
    """A hood on a hoodie's back and a collar on shirts, jackets and coats."""
    if plan.top.kind not in ("hoodie", "shirt", "jacket", "coat", "robe"):
        return []
    shared = bank()
    base = rest.heads[shared.bones.index("neck01")]
    row = cloth_row(plan.top, TOP, rng, 0.1)
    row[9] = 0
    hood = plan.top.kind == "hoodie"
    angle = np.linspace(-np.pi + 0.25, np.pi - 0.25, 22) + np.pi
    loop = np.linspace(0, 2 * np.pi, 7) if hood else np.linspace(0, 1, 3)
    grid = np.zeros((len(loop), len(angle), 3))
    round_back = 0.5 - 0.5 * np.cos(angle)
    for i, t in enumerate(loop):
        if hood:
            thick = 0.018 + 0.022 * round_back
            radius = 0.085 + thick * np.cos(t)
            lift = thick * np.sin(t) + 0.005
        else:
            radius = 0.078 + 0.004 * t - 0.006 * round_back * t
            lift = -0.016 + 0.034 * t + 0 * angle
        grid[i, :, 0] = radius * np.sin(angle)
        grid[i, :, 2] = radius * 1.0 * np.cos(angle) - 0.004
        grid[i, :, 1] = lift - 0.42 * grid[i, :, 2]
    return [_loft(grid + base, row, {"neck01": 0.4 * np.ones(len(loop)), "spine01": 0.6 * np.ones(len(loop))},
                  0.014, False)]  # fmt: skip
