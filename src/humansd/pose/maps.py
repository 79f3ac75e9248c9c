"""Maps made from poses: joint heatmaps and person masks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from humansd.core.arrays import Float64s
from humansd.pose.errors import PoseError
from humansd.pose.people import People
from humansd.pose.raster import Patch, tame
from humansd.pose.skeleton import COCO17

THICKNESS = 0.15  # radius of a limb in a person mask, as a share of the torso's length
_HEAD = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
_TORSO = ("left_shoulder", "right_shoulder", "right_hip", "left_hip")
# Length of a body part as a share of the torso (shoulder line to hip line), for people without a whole torso.
_TORSO_SHARES = {
    ("left_shoulder", "right_shoulder"): 0.75,
    **{(f"{s}_{a}", f"{s}_{b}"): share for s in ("left", "right") for a, b, share in (
        ("shoulder", "elbow", 0.6), ("elbow", "wrist", 0.5), ("hip", "knee", 0.85), ("knee", "ankle", 0.85),
    )},
    ("left_ear", "right_ear"): 0.3,
    ("left_eye", "right_eye"): 0.13,
}  # fmt: skip


def gaussian_heatmaps(people: People, size: tuple[int, int], sigma_px: float) -> NDArray[np.float32]:
    """float32 (k, height, width) in 0..1: exp(-d^2 / 2 sigma^2) of the nearest labelled joint of each kind.

    size: (width, height) of the maps, the canvas letterboxed into it; sigma_px in pixels of the maps.
    """
    if not (np.isfinite(sigma_px) and sigma_px > 0):
        raise PoseError(f"sigma {sigma_px!r} is not above 0", field="sigma_px", remedy="Give it in map pixels.")
    people = people.fit(*size)
    width, height = people.canvas
    maps = np.zeros((people.xy.shape[1], height, width), np.float32)
    x, y = np.arange(width), np.arange(height)
    for points, seen in zip(tame(people.xy), people.labelled, strict=True):
        for j in np.flatnonzero(seen):
            across = np.exp(-((x - points[j, 0]) ** 2) / (2 * sigma_px**2))
            down = np.exp(-((y - points[j, 1]) ** 2) / (2 * sigma_px**2))
            np.maximum(maps[j], np.outer(down, across), out=maps[j])
    return maps


def person_mask(people: People, size: tuple[int, int], thickness: float = THICKNESS) -> NDArray[np.uint8]:
    """uint8 (height, width) label map: 0 nobody, i + 1 person i; later people cover earlier ones.

    A person is capsules around the limbs, the torso polygon and a head disc. thickness: radius of a limb as a
    share of the torso's length (estimated from the limbs that are there), so a mask scales with its person.
    size: (width, height), the canvas letterboxed into it. PoseError for more than 255 people.
    """
    if people.n > 255:
        raise PoseError(f"{people.n} people do not fit a uint8 label map", field="people", remedy="Select 255.")
    if not (np.isfinite(thickness) and 0 < thickness <= 2):
        raise PoseError(f"thickness {thickness!r} is not in 0..2", field="thickness", remedy="Try 0.15.")
    people = people.to_skeleton(COCO17).fit(*size)
    mask = np.zeros(people.canvas[::-1], np.uint8)
    for i in range(people.n):
        cover_person(mask, i + 1, tame(people.xy[i]), people.labelled[i], thickness)
    return mask


def torso_length(xy: Float64s, seen: NDArray[np.bool_]) -> float:
    """Torso length in pixels of one COCO-17 person, measured or estimated from the limbs; 0 if unknown.

    xy: (17, 2); seen: (17,) bool. Foreshortening only shortens, so the largest estimate is taken.
    """
    joint = COCO17.joints.index
    estimates = [0.0]
    for (a, b), share in _TORSO_SHARES.items():
        if seen[joint(a)] and seen[joint(b)]:
            estimates.append(float(np.hypot(*(xy[joint(a)] - xy[joint(b)]))) / share)
    torso = [joint(name) for name in _TORSO]
    if seen[torso].all():
        middle = xy[torso[:2]].mean(axis=0) - xy[torso[2:]].mean(axis=0)
        estimates.append(float(np.hypot(*middle)))
    return max(estimates)


def cover_person(
    mask: NDArray[np.uint8], label: int, xy: Float64s, seen: NDArray[np.bool_], thickness: float = THICKNESS
) -> None:
    """Writes `label` wherever one COCO-17 person is in `mask` (height, width), as `person_mask` says.

    xy: (17, 2) px of the mask; seen: (17,) bool, the joints that count.
    """
    torso = torso_length(xy, seen)
    radius = max(thickness * torso, 0.5)
    segments = [(i, j, radius) for i, j in COCO17.limbs if i > 4 and j > 4 and seen[i] and seen[j]]
    segments += [(i, i, radius) for i in range(5, len(seen)) if seen[i]]
    shapes = [(xy[i], xy[j], r) for i, j, r in segments]
    head = xy[[j for j in range(len(_HEAD)) if seen[j]]]
    if len(head):
        centre = head.mean(axis=0)
        shapes.append((centre, centre, max(0.3 * torso, 0.5)))
        if seen[5] and seen[6]:
            shapes.append((centre, xy[[5, 6]].mean(axis=0), radius))
    for a, b, r in shapes:
        patch = Patch(np.stack([a, b]), r, (mask.shape[0], mask.shape[1]))
        if patch:
            mask[patch.index][patch.to_segment(a, b) <= r] = label
    corners = [COCO17.joints.index(name) for name in _TORSO]
    if seen[corners].all():
        _fill_polygon(mask, xy[corners], label)


def _fill_polygon(mask: NDArray[np.uint8], corners: Float64s, label: int) -> None:
    """Fill the hull of the corners (a person seen from the side has crossing shoulders and hips)."""
    # Fixed point with 4 bits must stay inside int32.
    fixed = np.rint(np.clip(corners, -1e6, 1e6) * 16).astype(np.int32)
    cv2.fillConvexPoly(mask, cv2.convexHull(fixed.reshape(-1, 1, 2)), label, cv2.LINE_8, 4)
