"""Skeletons: the tables of joints, limbs, sigmas, flip pairs and colours.

COCO-17 with 16 limbs is what HumanSD draws (no shoulder-shoulder and no hip-hip limb); OpenPose-18 with 17
limbs is what ControlNet and T2I-Adapter draw; Human-Art-21 is COCO-17 plus fingers and toes.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

from humansd.pose.errors import PoseError

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Skeleton:
    """A fixed list of joints and how they hang together. "Left" is the person's own left.

    joints: names, unique. limbs: index pairs, in draw order. sigmas: one per joint, the COCO falloff
    constants (OKS uses (2 sigma)^2). flip_pairs: (left, right) indices that trade places in a mirror.
    limb_colors: one RGB per limb, 0..255. joint_colors: one RGB per joint, 0..255 (empty: joints take the
    colour of their limb).
    """

    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    limb_colors: tuple[Color, ...]
    joint_colors: tuple[Color, ...] = ()

    def __post_init__(self) -> None:
        k = len(self.joints)
        if len(set(self.joints)) != k or len(self.sigmas) != k or len(self.joint_colors) not in (0, k):
            raise PoseError(f"skeleton {self.name!r} needs {k} unique names, sigmas and joint colours", field="joints")
        if len(self.limb_colors) != len(self.limbs):
            raise PoseError(f"skeleton {self.name!r} needs one colour per limb", field="limb_colors")
        if any(not 0 <= j < k for pair in (*self.limbs, *self.flip_pairs) for j in pair):
            raise PoseError(f"skeleton {self.name!r} names a joint that it lacks", field="limbs")

    def __len__(self) -> int:
        return len(self.joints)

    def index(self, joint: str) -> int:
        """Index of a joint name; PoseError if the skeleton lacks it."""
        if joint not in self.joints:
            raise PoseError(
                f"skeleton {self.name!r} has no joint {joint!r}",
                field="joint",
                remedy=f"Use one of {', '.join(self.joints)}.",
            )
        return self.joints.index(joint)

    @property
    def flip_order(self) -> tuple[int, ...]:
        """order such that values[order] are the values of the mirrored person; its own inverse."""
        order = list(range(len(self.joints)))
        for left, right in self.flip_pairs:
            order[left], order[right] = right, left
        return tuple(order)


def hls_palette(count: int) -> tuple[Color, ...]:
    """`count` evenly spaced hues: h = i / count + 0.01, l = 0.6, s = 0.65 (the HumanSD drawing), RGB."""
    return tuple(_rgb(colorsys.hls_to_rgb((i / count + 0.01) % 1.0, 0.6, 0.65)) for i in range(count))


def hsv_palette(count: int) -> tuple[Color, ...]:
    """`count` evenly spaced, fully saturated hues (the OpenPose drawing), RGB."""
    return tuple(_rgb(colorsys.hsv_to_rgb(i / count, 1.0, 1.0)) for i in range(count))


def _rgb(unit: tuple[float, float, float]) -> Color:
    red, green, blue = (int(channel * 255 + 0.5) for channel in unit)
    return red, green, blue


def _sided(*parts: str) -> tuple[str, ...]:
    return tuple(f"{side}_{part}" for part in parts for side in ("left", "right"))


def _pairs(joints: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    lefts = [name for name in joints if name.startswith("left_")]
    return tuple((joints.index(name), joints.index(name.replace("left_", "right_", 1))) for name in lefts)


_COCO_JOINTS = (
    "nose",
    *_sided("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"),
)
_COCO_LIMBS = (
    *((0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
    *((5, 7), (6, 8), (7, 9), (8, 10)),
    *((5, 11), (6, 12), (11, 13), (12, 14), (13, 15), (14, 16)),
)
_SIGMA = {
    **{"nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062},
    **{"hip": 0.107, "knee": 0.087, "ankle": 0.089},
    # COCO has none for these: the neck takes the shoulder's, fingers and toes those of the joint they end.
    **{"neck": 0.079, "finger": 0.062, "toe": 0.089},
}


def _sigmas(joints: tuple[str, ...]) -> tuple[float, ...]:
    return tuple(_SIGMA[name.rsplit("_", 1)[-1]] for name in joints)


COCO17 = Skeleton(
    name="coco17",
    joints=_COCO_JOINTS,
    limbs=_COCO_LIMBS,
    sigmas=_sigmas(_COCO_JOINTS),
    flip_pairs=_pairs(_COCO_JOINTS),
    limb_colors=hls_palette(len(_COCO_LIMBS)),
)

_OPENPOSE_JOINTS = (
    *("nose", "neck"),
    *("right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist"),
    *("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
    *("right_eye", "left_eye", "right_ear", "left_ear"),
)
_OPENPOSE_LIMBS = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7)),
    *((1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13)),
    *((1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),
)
OPENPOSE18 = Skeleton(
    name="openpose18",
    joints=_OPENPOSE_JOINTS,
    limbs=_OPENPOSE_LIMBS,
    sigmas=_sigmas(_OPENPOSE_JOINTS),
    flip_pairs=_pairs(_OPENPOSE_JOINTS),
    limb_colors=hsv_palette(len(_OPENPOSE_JOINTS))[: len(_OPENPOSE_LIMBS)],
    joint_colors=hsv_palette(len(_OPENPOSE_JOINTS)),
)

_HUMANART_JOINTS = (*_COCO_JOINTS, *_sided("finger", "toe"))
_HUMANART_LIMBS = (*_COCO_LIMBS, (9, 17), (10, 18), (15, 19), (16, 20))
HUMANART21 = Skeleton(
    name="humanart21",
    joints=_HUMANART_JOINTS,
    limbs=_HUMANART_LIMBS,
    sigmas=_sigmas(_HUMANART_JOINTS),
    flip_pairs=_pairs(_HUMANART_JOINTS),
    limb_colors=hls_palette(len(_HUMANART_LIMBS)),
)

SKELETONS: dict[str, Skeleton] = {s.name: s for s in (COCO17, OPENPOSE18, HUMANART21)}
