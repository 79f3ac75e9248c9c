"""Joints by name: what tools call them, and the joint sets that are known by their order.

`canonical` turns any spelling of a joint ("R_Shoulder", "right shoulder", "shoulderRight", "RShoulder") into one name,
`JOINT_SETS` lists the orders in which files without names write their joints. Sources: the papers and code of COCO,
COCO-WholeBody, Human-Art, OpenPose, MPII, CrowdPose, LSP, AI Challenger, Human3.6M, PoseTrack, Halpe and BlazePose.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from humansd.pose.checks import shown
from humansd.pose.errors import PoseError
from humansd.pose.skeleton import COCO17, HUMANART21, OPENPOSE18

MAX_JOINTS = 1000  # of one person
_FEW = 3  # names that must be known before a list of names is believed
_SIDES = {"left": "left", "l": "left", "lt": "left", "right": "right", "r": "right", "rt": "right"}
# The part as we call it, and what else tools write, without separators.
_SIDED = {
    "eye": ("eye", "eyeball"), "ear": ("ear",), "shoulder": ("shoulder", "sho", "shldr", "shoulders"),
    "elbow": ("elbow", "elb", "elbows"), "wrist": ("wrist", "wri", "wrists"), "hip": ("hip", "hips", "hipjoint"),
    "knee": ("knee", "kne", "knees"), "ankle": ("ankle", "ank", "ankles"), "finger": ("finger",), "toe": ("toe",),
    "big_toe": ("bigtoe", "toebig"), "small_toe": ("smalltoe", "littletoe", "toesmall"), "heel": ("heel",),
    "eye_inner": ("eyeinner", "innereye"), "eye_outer": ("eyeouter", "outereye"), "mouth": ("mouth",),
    "pinky": ("pinky",), "index": ("index",), "thumb": ("thumb",), "foot_index": ("footindex",),
    "hand": ("hand",), "foot": ("foot",),
}  # fmt: skip
_MIDDLE = {
    "nose": ("nose", "nosetip", "headnose"), "neck": ("neck",),
    "mid_hip": ("midhip", "hipmid", "hipcenter", "hipcentre", "centerhip", "pelvis", "root", "hip", "hips"),
    "head": ("head",), "head_top": ("headtop", "tophead", "topofhead", "vertex"),
    "head_bottom": ("headbottom",), "upper_neck": ("upperneck",), "thorax": ("thorax",), "spine": ("spine",),
    "chest": ("chest",),
}  # fmt: skip
_SIDED_PARTS = {alias: part for part, aliases in _SIDED.items() for alias in aliases}
_MIDDLE_PARTS = {alias: part for part, aliases in _MIDDLE.items() for alias in aliases}
_NOISE = {"keypoint", "keypoints", "kp", "kpt", "joint", "point", "landmark", "person", "human", "body", "pose"}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@functools.lru_cache(4096)
def canonical(name: str) -> str:
    """The one name of a joint, such as "left_shoulder"; "" where the text is no joint that is known."""
    words = [word.lower() for word in _WORDS.findall(name[:60])]
    words = [word for word in words if not word.isdigit() and (word not in _NOISE or len(words) == 1)]
    sides = [word for word in words if word in _SIDES]
    rest = "".join(word for word in words if word not in _SIDES)
    if len(sides) == 1:
        part = _SIDED_PARTS.get(rest, "")
        return f"{_SIDES[sides[0]]}_{part}" if part else ""
    if sides:
        return ""
    if rest in _MIDDLE_PARTS:
        return _MIDDLE_PARTS[rest]
    for short in sorted(_SIDES, key=len, reverse=True):  # "rshoulder", "lefteye", "shoulderleft", "eyel"
        for part in (rest.removeprefix(short), rest.removesuffix(short)):
            if part != rest and part in _SIDED_PARTS:
                return f"{_SIDES[short]}_{_SIDED_PARTS[part]}"
    return ""


@dataclass(frozen=True)
class JointSet:
    """Joints in the order in which some files write them. names: canonical ones; source: who writes it."""

    name: str
    names: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.names)


def _sided(*parts: str) -> tuple[str, ...]:
    return tuple(f"{side}_{part}" for part in parts for side in ("left", "right"))


def _chain(side: str, *parts: str) -> tuple[str, ...]:
    return tuple(f"{side}_{part}" for part in parts)


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}_{i}" for i in range(count))


_ARM, _LEG, _FOOT = ("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle"), ("big_toe", "small_toe", "heel")
_FEET = (*_chain("left", *_FOOT), *_chain("right", *_FOOT))
_ARMS_RL = (*_chain("right", *_ARM), *_chain("left", *_ARM))
_LEGS_RL = (*_chain("right", *_LEG), *_chain("left", *_LEG))
_LEGS_UP = (*_chain("right", *_LEG[::-1]), *_chain("left", *_LEG))
_ARMS_UP = (*_chain("right", *_ARM[::-1]), *_chain("left", *_ARM))
_EYES_EARS = ("right_eye", "left_eye", "right_ear", "left_ear")
_BODY12 = _sided(*_ARM, *_LEG)
_HALPE26 = (*COCO17.joints, "head", "neck", "mid_hip", *_sided(*_FOOT))
_HANDS = (*_numbered("lefthand", 21), *_numbered("righthand", 21))
_BLAZE_FACE = ("eye_inner", "eye", "eye_outer")

JOINT_SETS: dict[str, JointSet] = {
    s.name: s
    for s in (
        JointSet("coco17", COCO17.joints, "COCO, and most estimators"),
        JointSet("coco18", (*COCO17.joints, "neck"), "COCO with a neck behind, as trt_pose writes it"),
        JointSet("coco23", (*COCO17.joints, *_FEET), "COCO with six foot points"),
        JointSet(
            "wholebody133", (*COCO17.joints, *_FEET, *_numbered("face", 68), *_HANDS), "COCO-WholeBody, DWPose, RTMW"
        ),
        JointSet("humanart21", HUMANART21.joints, "Human-Art"),
        JointSet("openpose18", OPENPOSE18.joints, "OpenPose COCO, ControlNet, ComfyUI, editors"),
        JointSet("body25", ("nose", "neck", *_ARMS_RL, "mid_hip", *_LEGS_RL, *_EYES_EARS, *_FEET), "OpenPose BODY_25"),
        JointSet("body25b", (*COCO17.joints, "upper_neck", "head_top", *_FEET), "OpenPose BODY_25B"),
        JointSet("mpi15", ("head_top", "neck", *_ARMS_RL, *_LEGS_RL, "chest"), "OpenPose MPI"),
        JointSet("crowdpose14", (*_BODY12, "head_top", "neck"), "CrowdPose"),
        JointSet("lsp14", (*_LEGS_UP, *_ARMS_UP, "neck", "head_top"), "Leeds Sports Pose"),
        JointSet("aic14", (*_ARMS_RL, *_LEGS_RL, "head_top", "neck"), "AI Challenger"),
        JointSet("mpii16", (*_LEGS_UP, "mid_hip", "thorax", "upper_neck", "head_top", *_ARMS_UP), "MPII"),
        JointSet(
            "h36m17",
            ("mid_hip", *_chain("right", *_LEG), *_chain("left", *_LEG), "spine", "thorax", "nose", "head_top",
             *_chain("left", *_ARM), *_chain("right", *_ARM)),
            "Human3.6M, as 3D lifters write it",
        ),
        JointSet("posetrack17", ("nose", "head_bottom", "head_top", *_sided("ear"), *_BODY12), "PoseTrack18"),
        JointSet("halpe26", _HALPE26, "Halpe, AlphaPose, RTMPose"),
        JointSet("halpe136", (*_HALPE26, *_numbered("face", 68), *_HANDS), "Halpe full body"),
        JointSet(
            "blazepose33",
            ("nose", *_chain("left", *_BLAZE_FACE), *_chain("right", *_BLAZE_FACE), *_sided("ear", "mouth", *_ARM),
             *_sided("pinky", "index", "thumb", *_LEG, "heel", "foot_index")),
            "MediaPipe Pose",
        ),
    )
}  # fmt: skip

# Sets assumed, with a note, of joints without names: only counts that one set has made its own.
ASSUMED = {17: "coco17", 23: "coco23", 26: "halpe26", 33: "blazepose33", 133: "wholebody133", 136: "halpe136"}
OPENPOSE_ORDERS = {18: "openpose18", 25: "body25", 15: "mpi15", **ASSUMED}


def known_set(name: str) -> JointSet:
    """The joint set of that name; PoseError where there is none."""
    if name not in JOINT_SETS:
        raise PoseError(f"is {name!r}", field="joints", remedy=f"Choose one of {', '.join(JOINT_SETS)}.")
    return JOINT_SETS[name]


def names_in_order(listed: Any, field: str = "keypoints") -> tuple[str, ...]:
    """Canonical names of a file's list of joints, () where it names too few that are known.

    A joint of no known name keeps its own, and so does one that is named twice. PoseError where it is no list of texts.
    """
    if isinstance(listed, dict):  # mmpose: {"0": "nose", ...}
        listed = list(listed.values())
    texts = isinstance(listed, (list, tuple)) and len(listed) <= MAX_JOINTS and all(isinstance(n, str) for n in listed)
    if not texts:
        raise PoseError(f"{shown(listed)} is no list of joint names", field=field, remedy="List one text a joint.")
    found: list[str] = []
    for raw in listed:
        name = canonical(raw) or raw
        found.append(name if name not in found else raw)
    return tuple(found) if well_named(found) else ()


def well_named(names: Sequence[str]) -> bool:
    """Whether enough of these are canonical names to believe the rest."""
    known = sum(bool(canonical(name)) for name in names)
    return known >= min(_FEW, max(1, len(names)))


def sets_with(count: int) -> list[str]:
    """Names of the joint sets of so many joints."""
    return [name for name, joints in JOINT_SETS.items() if len(joints) == count]
