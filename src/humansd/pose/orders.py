"""Orders of joints that have one count: which of two is meant, by how long the limbs come out.

OpenPose's BODY_25 and BODY_25B both have 25 joints, its 18 and COCO with a neck behind have 18. In a wrong order limbs
lead across the whole body, whatever the pose, so their lengths together tell.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from humansd.pose.joints import JOINT_SETS
from humansd.pose.skeleton import COCO17

_RIVALS = {"openpose18": "coco18", "body25": "body25b"}
_LONGER = 1.2
_FEW = 6  # limbs
_NEAR = 0.15  # of a person's size: the neck from between the shoulders


def likelier(name: str, xy: NDArray[np.float64], seen: NDArray[np.uint8]) -> str:
    """The joint set `name`, or the other one of its count, where that makes the limbs much shorter and puts the neck
    between the shoulders.

    xy (k, 2) in any unit, seen (k,) of 0, 1 and 2.
    """
    rival = _RIVALS.get(name)
    if rival is None:
        return name
    own, other = (_limbs(one, xy, seen) for one in (name, rival))
    return rival if own > _LONGER * other and _has_neck(rival, xy, seen) else name


def _has_neck(name: str, xy: NDArray[np.float64], seen: NDArray[np.uint8]) -> bool:
    names = JOINT_SETS[name].names
    neck = names.index("neck" if "neck" in names else "upper_neck")
    shoulders = [names.index(f"{side}_shoulder") for side in ("left", "right")]
    if not seen[[neck, *shoulders]].all():
        return False
    size = float(np.hypot(*np.ptp(xy[seen > 0], axis=0)))
    return float(np.hypot(*(xy[neck] - xy[shoulders].mean(axis=0)))) <= _NEAR * size


def _limbs(name: str, xy: NDArray[np.float64], seen: NDArray[np.uint8]) -> float:
    """Mean length of a person's limbs in that order; NaN where too few are seen."""
    names = JOINT_SETS[name].names
    pairs = [[names.index(COCO17.joints[joint]) for joint in limb] for limb in COCO17.limbs]
    lengths = [float(np.hypot(*(xy[a] - xy[b]))) for a, b in pairs if seen[a] and seen[b]]
    return float(np.mean(lengths)) if len(lengths) >= _FEW else float("nan")
