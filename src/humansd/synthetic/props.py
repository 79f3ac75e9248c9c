"""Things that stand in front of people and hide what is below their top: walls, hedges, counters, crates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from humansd.synthetic import raster
from humansd.synthetic.buffers import PROP
from humansd.synthetic.plan import INDOOR
from humansd.synthetic.wardrobe import LAYER_FIELDS, Piece

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Looks:
    """colour, second: sRGB 0..1; pattern: index of PATTERNS with its pitch in metres; bump of the surface; cap:
    height in metres of a slab in the second colour on top, that juts out a little; wide: whether it may cross the
    whole image."""

    color: RGB
    second: RGB
    pattern: int = 0
    pitch: float = 0.2
    bump: float = 0.0
    cap: float = 0.0
    wide: bool = False


# The name, as captions have it.
PROPS: dict[str, Looks] = {
    "low wall": Looks((0.66, 0.63, 0.58), (0.55, 0.52, 0.48), 1, 0.16, 0.25, 0.07, True),
    "brick wall": Looks((0.60, 0.32, 0.24), (0.68, 0.44, 0.35), 2, 0.15, 0.15, 0.05, True),
    "hedge": Looks((0.22, 0.40, 0.18), (0.22, 0.40, 0.18), 0, 0.2, 1.1, 0.0, True),
    "wooden fence": Looks((0.56, 0.40, 0.25), (0.46, 0.32, 0.20), 1, 0.18, 0.1, 0.05, True),
    "counter": Looks((0.46, 0.34, 0.26), (0.84, 0.80, 0.74), 0, 0.2, 0.05, 0.06, True),
    "table": Looks((0.78, 0.78, 0.80), (0.86, 0.86, 0.88), 0, 0.2, 0.25, 0.03, False),
    "wooden crate": Looks((0.62, 0.47, 0.30), (0.52, 0.38, 0.23), 1, 0.14, 0.1, 0.0, False),
    "stone block": Looks((0.60, 0.60, 0.62), (0.60, 0.60, 0.62), 0, 0.2, 0.3, 0.0, False),
}
INSIDE = ("counter", "table", "wooden crate", "wooden fence")
OUTSIDE = ("low wall", "brick wall", "hedge", "hedge", "wooden fence", "wooden crate", "stone block", "table")


def choose(place: str, rng: np.random.Generator) -> str:
    """The name of a thing that fits the place."""
    names = INSIDE if place in INDOOR else OUTSIDE
    return str(rng.choice(names))


def build(name: str, low: np.ndarray, high: np.ndarray) -> list[Piece]:
    """The thing between two corners (3,), (3,) in metres; it stands on the floor at low[1]."""
    looks = PROPS[name]
    body = _row(looks.color, looks.second, looks)
    if not looks.cap:
        return [box(low, high, body)]
    edge = high - np.array([0, looks.cap, 0], np.float32)
    over = np.array([0.03, 0, 0.03], np.float32)
    slab = _row(looks.second, looks.second, Looks(looks.second, looks.second, bump=looks.bump))
    below = np.array([low[0], edge[1], low[2]], np.float32)
    return [box(low, edge, body), box(below - over, high + over, slab)]


def _row(color: RGB, second: RGB, looks: Looks) -> np.ndarray:
    row = np.zeros(LAYER_FIELDS, np.float32)
    row[0], row[2], row[3:6], row[6:9] = raster.CLOTH, PROP, color, second
    row[9], row[10], row[11] = looks.pattern, looks.pitch, looks.bump
    return row


def box(low: np.ndarray, high: np.ndarray, row: np.ndarray) -> Piece:
    """A box between two corners (3,), (3,) in metres, drawn with a layer (16,); normals point outward."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float32)
    faces = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    points = np.concatenate([corners[list(f)] for f in faces])
    points = (low + points * (high - low)).astype(np.float32)
    triangles = np.concatenate([np.array([[0, 1, 2], [0, 2, 3]], np.int32) + 4 * i for i in range(6)])
    n = len(points)
    across = np.stack([points[:, 0] + points[:, 2], points[:, 1]], 1)
    return Piece(
        points, triangles, np.zeros((n, 4), np.int32), np.zeros((n, 4), np.float32), np.ones(n, np.float32),
        points, across, row, 0.0, "prop", False,
    )  # fmt: skip
