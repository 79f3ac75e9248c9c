"""Comparing poses: object keypoint similarity and the cosine of normalised poses."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from humansd.core.arrays import Float64s
from humansd.pose.errors import PoseError
from humansd.pose.people import People


def oks(
    truth: People,
    found: People,
    area: ArrayLike | None = None,
    sigmas: ArrayLike | None = None,
) -> Float64s:
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
    return float(cosines(a, seen_a > 0, b, seen_b > 0))


def cosines(a_xy: ArrayLike, a_seen: ArrayLike, b_xy: ArrayLike, b_seen: ArrayLike) -> Float64s:
    """`pose_cosine` of many pairs at once, float64 (...): xy (..., k, 2) pixels, seen (..., k) bool, broadcast."""
    common = np.asarray(a_seen, bool) & np.asarray(b_seen, bool)
    unit_a, unit_b = _unit(np.asarray(a_xy, np.float64), common), _unit(np.asarray(b_xy, np.float64), common)
    return np.asarray(np.clip(np.einsum("...kc,...kc->...", unit_a, unit_b), -1.0, 1.0))


def cosine_matrix(a: People, b: People) -> Float64s:
    """`pose_cosine` of every pair, float64 (a.n, b.n); PoseError when the skeletons differ."""
    _comparable(a, b)
    out = np.empty((a.n, b.n))
    for i in range(a.n):  # one row at a time: all pairs of 1000 people at once take gigabytes
        out[i] = cosines(a.xy[i], a.labelled[i], b.xy, b.labelled)
    return out


def _unit(xy: Float64s, counted: NDArray[np.bool_]) -> Float64s:
    """The counted joints centred and scaled to unit norm, the others 0; all NaN for a pose without a shape."""
    points = np.where(counted[..., None], xy, 0.0)
    number = counted.sum(axis=-1)
    centre = np.einsum("...kc->...c", points) / np.maximum(number, 1)[..., None]
    centred = np.where(counted[..., None], points - centre[..., None, :], 0.0)
    norm = np.sqrt(np.einsum("...kc,...kc->...", centred, centred))
    # Below rounding of the coordinates themselves a "shape" is noise.
    shape = (number >= 2) & (norm > 1e-9 * np.maximum(1.0, np.abs(points).max(axis=(-2, -1))))
    return np.asarray(centred / np.where(shape, norm, np.nan)[..., None, None])


def _comparable(a: People, b: People) -> None:
    if a.skeleton != b.skeleton:
        raise PoseError(
            f"the skeletons {a.skeleton.name!r} and {b.skeleton.name!r} differ",
            field="skeleton",
            remedy="Use People.to_skeleton first.",
        )
