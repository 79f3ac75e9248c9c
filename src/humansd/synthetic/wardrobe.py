"""Clothes: offset shells of the body bank's blocks with a signed "cut" per vertex.

A cut is a distance in metres, positive inside the garment; the rasteriser drops the pixels where it is negative,
so hems and necklines are clean whatever the mesh. Every garment covers at least from the collar to the hips, and
bottoms at least to the middle of the thigh; the bank has no skin on the trunk at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from humansd.synthetic import raster
from humansd.synthetic.body import Body, bank
from humansd.synthetic.buffers import BOTTOM, SHOES, TOP
from humansd.synthetic.plan import COLORS, PATTERNS, SKINS, Garment, PersonPlan
from humansd.synthetic.regions import Region, landmarks, region

LAYER_FIELDS = 16
FULL_LENGTH = ("dress", "robe", "coat")
SKIRTS = ("skirt", "long skirt")
TUCKED = ("t-shirt", "shirt", "vest")  # worn inside a skirt
PLACKET = 15  # layer field: 1 draws a button line down the front


@dataclass(frozen=True, eq=False)
class Piece:
    """One surface of a dressed person, in the body's rest pose.

    points (n,3); triangles (t,3) local; index, weight (n,4) skinning; cut (n,); paint (n,3) and across (n,2):
    coordinates of face marks and of patterns; row (16,): the layer's entry of `raster.shade_pixels`; bias:
    metres that the surface counts as nearer; firm: counts when the figure is put on the floor.
    """

    points: np.ndarray
    triangles: np.ndarray
    index: np.ndarray
    weight: np.ndarray
    cut: np.ndarray
    paint: np.ndarray
    across: np.ndarray
    row: np.ndarray
    bias: float
    block: str = ""
    firm: bool = True


@dataclass(frozen=True)
class Cut:
    """Shape of a garment: sleeve (m from the shoulder), hem (height), neck (m below the collar), offset from the
    body, flare at the hem (m), loose 0 tight .. 1 smoothed, open: half width of a front opening (negative:
    closed), wide: extra width of the cuff (m)."""

    sleeve: float
    hem: float
    neck: float = 0.0
    offset: float = 0.014
    flare: float = 0.01
    loose: float = 1.0
    open: float = -1.0
    wide: float = 0.0


@lru_cache(maxsize=1)
def _cuts() -> dict[str, Cut]:
    """Garment word -> shape; heights on the average body."""
    mark = landmarks()
    arm, hip, knee, ankle = mark["arm"], mark["hip"], mark["knee"], mark["ankle"]
    return {
        "t-shirt": Cut(0.37 * arm, hip - 0.06, 0.012),
        "shirt": Cut(0.97 * arm, hip - 0.08, 0.0, 0.015, 0.012),
        "sweater": Cut(0.97 * arm, hip - 0.04, 0.006, 0.021, 0.002),
        "jacket": Cut(0.99 * arm, hip - 0.05, 0.004, 0.026, 0.012, 1.0, 0.022),
        "hoodie": Cut(0.98 * arm, hip - 0.06, 0.002, 0.027, 0.0),
        "vest": Cut(0.015, hip - 0.05, 0.014, 0.013, 0.008),
        "coat": Cut(0.99 * arm, knee + 0.02, 0.004, 0.030, 0.012, 1.0, 0.022),
        "dress": Cut(0.20 * arm, knee - 0.03, 0.014, 0.011, 0.0, 0.8),
        "robe": Cut(0.97 * arm, 0.03, 0.0, 0.028, 0.01, 1.0, -1.0, 0.045),
        "trousers": Cut(0, ankle - 0.03, 0, 0.009, 0.024, 0.7),
        "shorts": Cut(0, knee + 0.06, 0, 0.010, 0.026, 0.8),
        "leggings": Cut(0, ankle + 0.01, 0, 0.005, 0.0, 0.3),
        "skirt": Cut(0, knee + 0.01),
        "long skirt": Cut(0, ankle + 0.03),
        "slip": Cut(0, knee + 0.09, 0, 0.004, 0.0, 0.2),
        "lining": Cut(0.1, hip - 0.03, 0.008, 0.012, 0.002),
    }


def _over_top(where: Region, cut: Cut, hem: float) -> np.ndarray:
    """Signed cut of a top at `where`, (n,) metres."""
    below = where.height - hem + 3.0 * where.arm
    out = np.minimum(where.neck - cut.neck, np.minimum(cut.sleeve - where.sleeve, below))
    if cut.open > 0:
        rise = np.clip((where.height - landmarks()["waist"]) / 0.35, 0, 1)
        gap = np.abs(where.side) - cut.open * (0.5 + 1.3 * rise**2)
        out = np.where((where.front > 0) & (where.arm < 0.5), np.minimum(out, gap), out)
    return out.astype(np.float32)


def _over_legs(where: Region, cut: Cut) -> np.ndarray:
    waist = landmarks()["waist"] - where.height - 2.0 * where.arm
    return np.minimum(waist, where.height - cut.hem).astype(np.float32)


def layer_row(kind: int, material: int, color: np.ndarray, second: np.ndarray | None = None) -> np.ndarray:
    """A layer entry (16,) for `raster.shade_pixels`; colours sRGB 0..1."""
    row = np.zeros(LAYER_FIELDS, np.float32)
    row[0], row[2] = kind, material
    row[3:6] = color
    row[6:9] = color if second is None else second
    row[10] = 0.1
    return row


def rgb(name: str) -> np.ndarray:
    """A colour word as sRGB 0..1."""
    return np.array(COLORS[name], np.float32) / 255


def cloth_row(garment: Garment, material: int, rng: np.random.Generator, bump: float = 0.2) -> np.ndarray:
    """The layer of a cloth with its pattern; the second colour is white or black, whichever differs more."""
    color = rgb(garment.color)
    dark = float(color @ np.array([0.3, 0.59, 0.11], np.float32)) < 0.55
    row = layer_row(raster.CLOTH, material, color, rgb("white" if dark else "black"))
    row[9] = PATTERNS.index(garment.pattern)
    row[10] = rng.uniform(0.05, 0.09) if garment.pattern != "dotted" else rng.uniform(0.05, 0.075)
    row[11] = bump
    return row


def too_close_to_skin(color: str, skin: int) -> bool:
    """Whether cloth of this colour word could be mistaken for bare skin of shade `skin`."""
    difference = rgb(color) - np.array(SKINS[skin], np.float32) / 255
    return bool(np.abs(difference).mean() < 0.14)


def shell(rest: Body, block: str, cut: np.ndarray, row: np.ndarray, offset: np.ndarray | float, bias: float,
          loose: float = 0.0) -> Piece:  # fmt: skip
    """An offset copy of a block in the rest pose, without the triangles that are cut away entirely."""
    shared = bank()
    rows = shared.blocks[block]
    points, normals = rest.points[rows], rest.normals[rows]
    if loose > 0:
        points = points + np.float32(loose) * (rest.loose - points)
        normals = normals + np.float32(loose) * (rest.loose_normals - normals)
    points = points + normals * (np.asarray(offset, np.float32).reshape(-1, 1))
    triangles = shared.triangles[block] - rows.start
    triangles = triangles[(cut >= 0)[triangles].any(1)]
    where = region(rest, block)
    return Piece(
        points.astype(np.float32), triangles, shared.bone_index[rows], shared.bone_weight[rows],
        cut.astype(np.float32), shared.paint[rows], where.across, row, bias, block, block != "skirt",
    )  # fmt: skip


def _skirt(rest: Body, hem: float, row: np.ndarray, folds: float, rng: np.random.Generator, extra: float,
           bias: float) -> Piece:  # fmt: skip
    """A skirt or the lower part of a dress, coat or robe, with soft pleats that grow downwards."""
    where = region(rest, "skirt")
    drop = np.clip((float(where.height.max()) - where.height - 0.08) / 0.8, 0, 1)
    angle = np.arctan2(where.side, where.front - 0.02)
    pleats = np.sin(angle * rng.integers(7, 12) + rng.uniform(0, 6)) * folds * np.sqrt(drop)
    offset = extra + pleats + drop * rng.uniform(0.01, 0.04)
    return shell(rest, "skirt", where.height - hem, row, offset, bias)


def _top_shell(rest: Body, cut: Cut, hem: float, row: np.ndarray, bias: float) -> Piece:
    where = region(rest, "tights")
    low = np.clip((landmarks()["waist"] - where.height) / 0.2, 0, 1) * (where.arm < 0.4)
    end = np.clip(where.sleeve / max(cut.sleeve, 0.05), 0, 1)
    offset = cut.offset + cut.flare * low + cut.wide * end**2 + 0.006 * end
    # Close to the collar the cloth lies on the neck.
    offset = offset * np.clip((where.neck - cut.neck) / 0.06 + 0.3, 0.3, 1)
    return shell(rest, "tights", _over_top(where, cut, hem), row, offset, bias, cut.loose)


def _leg_shell(rest: Body, cut: Cut, row: np.ndarray, bias: float) -> Piece:
    where = region(rest, "tights")
    down = np.clip((landmarks()["hip"] - where.height) / (landmarks()["hip"] - cut.hem), 0, 1)
    return shell(rest, "tights", _over_legs(where, cut), row, cut.offset + cut.flare * down, bias, cut.loose)


def _shoes(garment: Garment, rest: Body, hem: float) -> Piece:
    """Shoes or boots; the shaft ends under a skirt that reaches lower than it."""
    where = region(rest, "tights")
    boots = garment.kind == "boots"
    shaft = landmarks()["ankle"] + (0.17 if boots else -0.005)
    cut = min(shaft, hem + 0.05) - where.height - (0.0 if boots else 0.25) * np.clip(where.front, 0, 0.1)
    sole = rgb("grey" if garment.color == "white" else "white")
    row = layer_row(raster.SHOE, SHOES, rgb(garment.color), rgb(garment.color) * 0.5 if boots else sole)
    return shell(rest, "tights", np.where(where.leg > 0.5, cut, -1.0), row, 0.009, 0.008)


def _top_pieces(plan: PersonPlan, rest: Body, rng: np.random.Generator) -> list[tuple[Piece, Cut, float]]:
    """The top's shells, each with its cut and hem."""
    cut = _cuts()[plan.top.kind]
    hem = landmarks()["hip"] - 0.02 if plan.top.kind in FULL_LENGTH else cut.hem
    row = cloth_row(plan.top, TOP, rng, 0.35 if plan.top.kind == "robe" else 0.2)
    row[PLACKET] = plan.top.kind == "shirt"
    out = [(_top_shell(rest, cut, hem, row, 0.016), cut, hem)]
    if cut.open > 0:
        color = "white" if plan.top.color not in ("white", "yellow", "pink") else "black"
        under = _cuts()["lining"]
        inner = cloth_row(Garment("t-shirt", color), TOP, rng)
        out.append((_top_shell(rest, under, under.hem, inner, 0.007), under, under.hem))
    return out


def clothe(plan: PersonPlan, rest: Body, rng: np.random.Generator) -> tuple[list[Piece], np.ndarray]:
    """The clothes and shoes of a person, and the cut (n,) that keeps bare skin to where no cloth covers it."""
    skin = region(rest, "skin")
    legs = skin.leg > 0.3
    covered = np.full(len(skin.arm), -1.0, np.float32)  # largest cloth cut over each skin vertex
    pieces = []
    skirt_hem = np.inf
    for piece, cut, hem in _top_pieces(plan, rest, rng):
        pieces.append(piece)
        covered = np.maximum(covered, _over_top(skin, cut, hem))
    if plan.top.kind in FULL_LENGTH:
        cut = _cuts()[plan.top.kind]
        folds = {"robe": 0.018, "dress": 0.012, "coat": 0.004}[plan.top.kind]
        row = pieces[0].row.copy()
        row[PLACKET] = 0
        pieces.append(_skirt(rest, cut.hem, row, folds, rng, cut.offset, 0.012))
        skirt_hem = cut.hem
    bottom = plan.bottom
    if bottom is not None and bottom.kind not in SKIRTS:
        cut = _cuts()[bottom.kind]
        pieces.append(_leg_shell(rest, cut, cloth_row(bottom, BOTTOM, rng), 0.006))
        covered = np.maximum(covered, np.where(legs, skin.height - cut.hem, -1))
    else:  # nothing under a skirt is ever bare
        if bottom is not None:
            skirt_hem = _cuts()[bottom.kind].hem
            bias = 0.032 if plan.top.kind in TUCKED else 0.010
            row = cloth_row(bottom, BOTTOM, rng)
            pieces.append(_skirt(rest, skirt_hem, row, 0.010, rng, 0.014, bias))
        slip = layer_row(raster.CLOTH, BOTTOM if bottom is not None else TOP, pieces[-1].row[3:6] * 0.6)
        pieces.append(_leg_shell(rest, _cuts()["slip"], slip, 0.003))
    if skirt_hem < np.inf:
        covered = np.maximum(covered, np.where(legs, skin.height - skirt_hem - 0.03, -1))
    pieces.append(_shoes(plan.shoes, rest, min(skirt_hem, 9.0) if plan.top.kind != "coat" else 9.0))
    return [replace(p, bias=0.03) if _worn_over(p, plan) else p for p in pieces], 0.03 - covered


def _worn_over(piece: Piece, plan: PersonPlan) -> bool:
    """Whether a top hangs over the skirt."""
    skirted = plan.bottom is not None and plan.bottom.kind in SKIRTS
    return skirted and piece.row[2] == TOP and piece.block == "tights" and plan.top.kind not in TUCKED
