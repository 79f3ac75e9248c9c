"""Where the vertices of a rest body lie: the distances that garment cuts and patterns are made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from humansd.synthetic.body import N_BODIES, Body, bank


@dataclass(frozen=True, eq=False)
class Region:
    """Values of the vertices of one block, all (n,); lengths in metres of the *average* body.

    arm: 0..1 share of arm bones; leg: share of leg bones; sleeve: distance from the shoulder along the arm,
    negative on the trunk; height above the sole; front: z; side: x; neck: distance below the collar's plane;
    across (n,2): pattern coordinates around and along trunk or limb.
    """

    arm: np.ndarray
    leg: np.ndarray
    sleeve: np.ndarray
    height: np.ndarray
    front: np.ndarray
    side: np.ndarray
    neck: np.ndarray
    across: np.ndarray


@lru_cache(maxsize=1)
def landmarks() -> dict[str, float]:
    """Heights above the sole, and the arm's length, in metres on the average body."""
    shared = bank()
    joint = shared.joints
    bone = {b: i for i, b in enumerate(shared.bones)}
    arm = np.linalg.norm(shared.heads[bone["wrist.L"]] - shared.heads[bone["upperarm01.L"]])
    return {
        "ankle": float(joint[15, 1]), "knee": float(joint[13, 1]), "hip": float(joint[11, 1]),
        "waist": float(joint[11, 1] + 0.13), "shoulder": float(joint[5, 1]), "nose": float(joint[0, 1]),
        "arm": float(arm), "top": float(shared.paint[shared.blocks["skin"], 1].max()),
    }  # fmt: skip


def bone_share(block: str, *prefixes: str) -> np.ndarray:
    """Sum of the skinning weights (n,) of the bones whose names start with a prefix."""
    shared = bank()
    chosen = np.array([b.startswith(prefixes) for b in shared.bones])
    rows = shared.blocks[block]
    return (shared.bone_weight[rows] * chosen[shared.bone_index[rows]]).sum(1)


@lru_cache(maxsize=4 * N_BODIES)
def region(rest: Body, block: str) -> Region:
    """Region values of a block of `rest`. Heights are mapped so that joints lie where the average body has them."""
    shared = bank()
    rows = shared.blocks[block]
    points = 0.2 * rest.points[rows] + 0.8 * rest.loose if block == "tights" else rest.points[rows]
    joints = rest.points[shared.n :]
    bone = {b: i for i, b in enumerate(shared.bones)}
    sole = float(rest.points[shared.blocks["tights"], 1].min())
    own = [sole, joints[15:17, 1].mean(), joints[13:15, 1].mean(), joints[11:13, 1].mean(), joints[5:7, 1].mean()]
    top = float(rest.points[shared.blocks["skin"], 1].max())
    mark = landmarks()
    average = [0.0, mark["ankle"], mark["knee"], mark["hip"], mark["shoulder"], mark["top"]]
    height: np.ndarray = np.interp(points[:, 1], [*own, top], average).astype(np.float32)
    height = np.where(points[:, 1] < sole, points[:, 1] - sole, height)

    arm = bone_share(block, "upperarm", "lowerarm", "wrist", "finger", "metacarpal")
    sleeve: np.ndarray = np.empty(len(points), np.float32)
    for side, sign in ((".L", 1), (".R", -1)):
        shoulder, wrist = rest.heads[bone["upperarm01" + side]], rest.heads[bone["wrist" + side]]
        length = float(np.linalg.norm(wrist - shoulder))
        mine = points[:, 0] * sign >= 0
        sleeve[mine] = ((points - shoulder) @ ((wrist - shoulder) / length) * (mark["arm"] / length))[mine]
    on_arm = np.clip((arm - 0.25) / 0.4, 0, 1)
    sleeve = on_arm * sleeve + (1 - on_arm) * np.minimum(sleeve, -0.06)

    collar, tilt = rest.heads[bone["neck01"]], np.radians(24.0)
    above = np.asarray((points[:, 1] - collar[1]) * np.cos(tilt) + (points[:, 2] - collar[2]) * np.sin(tilt))
    limb = arm > 0.5
    along = np.where(limb, mark["shoulder"] - sleeve, height)
    # Mirrored left to right, so that no seam shows at the back.
    middle = np.where(height < mark["hip"] - 0.1, np.abs(joints[11, 0]), 0.0)
    reach = np.where(height < mark["hip"] - 0.1, 0.075, 0.15)
    turn = np.arctan2(np.abs(points[:, 0]) - middle, points[:, 2] - joints[11:13, 2].mean()) * reach
    if block == "skirt":
        turn = np.arctan2(np.abs(points[:, 0]), points[:, 2] - joints[11:13, 2].mean()) * 0.18
    around = np.where(limb, 0.236 - points[:, 2], turn)  # meets the trunk's value at the shoulder
    return Region(
        arm=arm,
        leg=bone_share(block, "upperleg", "lowerleg", "foot", "toe"),
        sleeve=sleeve.astype(np.float32),
        height=height,
        front=points[:, 2] - float(joints[11:13, 2].mean()),
        side=points[:, 0].copy(),
        neck=(0.012 - above).astype(np.float32),
        across=np.stack([around, along], 1).astype(np.float32),
    )
