"""Comparing poses: object keypoint similarity and the cosine of normalised poses."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from humansd.pose.errors import PoseError
from humansd.pose.people import People

Floats = NDArray[np.float64]


def oks(
    truth: People,
    found: People,
    area: ArrayLike | None = None,
    sigmas: ArrayLike | None = None,
) -> Floats:
    """Object keypoint similarity, float64 (truth.n, found.n) in 0..1, as in COCO's key-point evaluation.

    Mean over the true person's labelled joints of exp(-d^2 / (2 area (2 sigma)^2)), d in pixels of the common
    canvas. area: (truth.n,) px^2, default `truth.areas()`; sigmas: (k,), default the skeleton's. A joint that
    `found` lacks scores 0. A true person without labelled joints gives 0 with everybody (COCO ignores such
    people). PoseError when canvas or skeleton differ.
    """
    _comparable(truth, found)
    if truth.canvas != found.canvas:
        raise PoseError(
            f"the canvases {truth.canvas} and {found.canvas} differ",
            field="canvas",
            remedy="Resize one first.",
        )
    k = len(truth.skeleton)
    sigma = np.asarray(truth.skeleton.sigmas if sigmas is None else sigmas, np.float64)
    size = np.asarray(truth.areas() if area is None else area, np.float64)
    if sigma.shape != (k,) or not (sigma > 0).all():
        raise PoseError(f"needs {k} numbers above 0", field="sigmas")
    if size.shape != (truth.n,) or (size < 0).any():
        raise PoseError(f"needs {truth.n} numbers of 0 or more", field="area")
    wanted = truth.labelled[:, None]
    gap2 = ((truth.xy[:, None] - found.xy[None]) ** 2).sum(axis=3)
    spread = (2 * sigma) ** 2 * 2 * (np.nan_to_num(size)[:, None, None] + np.spacing(1))
    likeness = np.exp(-gap2 / spread) * (wanted & found.labelled[None])
    return np.asarray(likeness.sum(axis=2) / np.maximum(wanted.sum(axis=2), 1))


def pose_cosine(a_xy: ArrayLike, a_vis: ArrayLike, b_xy: ArrayLike, b_vis: ArrayLike) -> float:
    """Cosine of two poses, -1..1; place and size do not count, rotation and mirroring do.

    xy: (k, 2) pixels; vis: (k,), a joint counts where it is > 0 in both. Both poses are centred on their
    common joints and scaled to unit norm. NaN with fewer than 2 common joints, and where all common joints of
    one pose coincide: such poses have no shape to compare.
    """
    a, b = np.asarray(a_xy, np.float64), np.asarray(b_xy, np.float64)
    seen_a, seen_b = np.asarray(a_vis), np.asarray(b_vis)
    if a.ndim != 2 or a.shape != b.shape or a.shape[1] != 2 or {seen_a.shape, seen_b.shape} != {(len(a),)}:
        raise PoseError(f"needs two poses (k, 2) with (k,) visibilities, got {a.shape} and {b.shape}", field="xy")
    common = (seen_a > 0) & (seen_b > 0)
    if common.sum() < 2:
        return float("nan")
    unit_a, unit_b = _unit(a[common]), _unit(b[common])
    return float(np.clip((unit_a * unit_b).sum(), -1.0, 1.0))


def cosine_matrix(a: People, b: People) -> Floats:
    """`pose_cosine` of every pair, float64 (a.n, b.n); PoseError when the skeletons differ."""
    _comparable(a, b)
    out = np.full((a.n, b.n), np.nan)
    for i in range(a.n):
        for j in range(b.n):
            out[i, j] = pose_cosine(a.xy[i], a.visibility[i], b.xy[j], b.visibility[j])
    return out


def _unit(points: Floats) -> Floats:
    centred = points - points.mean(axis=0)
    norm = float(np.linalg.norm(centred))
    # Below rounding of the coordinates themselves a "shape" is noise.
    if norm <= 1e-9 * max(1.0, float(np.abs(points).max())):
        return np.full_like(centred, np.nan)
    return np.asarray(centred / norm)


def _comparable(a: People, b: People) -> None:
    if a.skeleton != b.skeleton:
        raise PoseError(
            f"the skeletons {a.skeleton.name!r} and {b.skeleton.name!r} differ",
            field="skeleton",
            remedy="Use People.to_skeleton first.",
        )
