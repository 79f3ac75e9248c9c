"""From joint angles to bone rotations.

Angles are anatomical and in degrees, the same sign on both sides of the body. Reference stance: upright, arms
hanging, palms to the thighs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np

from humansd.synthetic.body import Body, bank

_Part = TypeVar("_Part", "Arm", "Leg", "Pose")


@dataclass(frozen=True)
class Arm:
    """lift 0 hanging, 90 level, 180 up; around 0 sideways, 90 forward, negative backward; twist > 0 turns the
    elbow's bending side outward (at lift 90 sideways: upward); elbow 0 straight; palm > 0 turns the thumb
    outward; curl of the fingers 0 flat to 90 fist."""

    lift: float = 8.0
    around: float = 10.0
    twist: float = 0.0
    elbow: float = 12.0
    palm: float = 0.0
    curl: float = 25.0


@dataclass(frozen=True)
class Leg:
    """flex > 0 thigh forward; out > 0 thigh sideways; twist > 0 toes outward; knee 0 straight; foot: toes down
    from the right angle, NaN puts the sole level."""

    flex: float = 0.0
    out: float = 4.0
    twist: float = 6.0
    knee: float = 2.0
    foot: float = float("nan")


@dataclass(frozen=True)
class Pose:
    """A whole posture. pitch > 0 tips the body forward, roll to its left, yaw to its left; bend, lean, twist
    bend the spine the same ways; nod, tilt, turn the head; hop: metres above the floor."""

    pitch: float = 0.0
    roll: float = 0.0
    yaw: float = 0.0
    bend: float = 0.0
    lean: float = 0.0
    twist: float = 0.0
    nod: float = 0.0
    tilt: float = 0.0
    turn: float = 0.0
    left_arm: Arm = Arm()
    right_arm: Arm = Arm()
    left_leg: Leg = Leg()
    right_leg: Leg = Leg()
    hop: float = 0.0

    def mirrored(self) -> Pose:
        """The mirror image."""
        return replace(
            self, roll=-self.roll, yaw=-self.yaw, lean=-self.lean, twist=-self.twist, tilt=-self.tilt,
            turn=-self.turn, left_arm=self.right_arm, right_arm=self.left_arm, left_leg=self.right_leg,
            right_leg=self.left_leg,
        )  # fmt: skip


# Limits of every angle, degrees.
ARM_LIMITS = {"lift": (0, 178), "around": (-90, 140), "twist": (-95, 100), "elbow": (0, 145), "palm": (-80, 80),
              "curl": (0, 95)}  # fmt: skip
LEG_LIMITS = {"flex": (-35, 125), "out": (-15, 75), "twist": (-25, 60), "knee": (0, 145), "foot": (-25, 60)}
BODY_LIMITS = {"pitch": (-180, 180), "roll": (-180, 180), "yaw": (-180, 180), "bend": (-35, 95),
               "lean": (-40, 40), "twist": (-45, 45), "nod": (-45, 50), "tilt": (-30, 30), "turn": (-65, 65),
               "hop": (0, 1.0)}  # fmt: skip


def _clamped(part: _Part, limits: Mapping[str, tuple[float, float]]) -> _Part:
    changes = {}
    for name, (low, high) in limits.items():
        value = getattr(part, name)
        if value < low or value > high:  # NaN passes: it means "level sole"
            changes[name] = min(max(value, low), high)
    return replace(part, **changes) if changes else part


def clamped(pose: Pose) -> Pose:
    """`pose` with every angle moved inside its limits."""
    return replace(
        _clamped(pose, BODY_LIMITS),
        left_arm=_clamped(pose.left_arm, ARM_LIMITS),
        right_arm=_clamped(pose.right_arm, ARM_LIMITS),
        left_leg=_clamped(pose.left_leg, LEG_LIMITS),
        right_leg=_clamped(pose.right_leg, LEG_LIMITS),
    )


def jittered(pose: Pose, rng: np.random.Generator, amount: float = 1.0) -> Pose:
    """`pose` with normal noise on its angles (3 to 6 degrees at `amount` 1), clamped."""
    noise = iter(rng.normal(0.0, amount, 40))

    def shake(part: _Part, limits: Mapping[str, tuple[float, float]], degrees: float) -> _Part:
        return replace(part, **{name: getattr(part, name) + degrees * next(noise) for name in limits})

    trunk = {k: v for k, v in BODY_LIMITS.items() if k not in ("hop", "yaw")}
    return clamped(
        replace(
            shake(pose, trunk, 2.0),
            left_arm=shake(pose.left_arm, ARM_LIMITS, 5.0),
            right_arm=shake(pose.right_arm, ARM_LIMITS, 5.0),
            left_leg=shake(pose.left_leg, LEG_LIMITS, 2.5),
            right_leg=shake(pose.right_leg, LEG_LIMITS, 2.5),
        )
    )


def blended(a: Pose, b: Pose, share: float) -> Pose:
    """Angles (1 - share) of `a` plus share of `b`; soles stay level where either's are."""

    def mix(x: _Part, y: _Part) -> _Part:
        return replace(
            x,
            **{
                f.name: (1 - share) * getattr(x, f.name) + share * getattr(y, f.name)
                for f in fields(x)
                if isinstance(getattr(x, f.name), (int, float))
            },
        )

    return replace(
        mix(a, b),
        left_arm=mix(a.left_arm, b.left_arm),
        right_arm=mix(a.right_arm, b.right_arm),
        left_leg=mix(a.left_leg, b.left_leg),
        right_leg=mix(a.right_leg, b.right_leg),
    )


def rot_x(degrees: float) -> np.ndarray:
    """Rotation about x: y towards z."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def rot_y(degrees: float) -> np.ndarray:
    """Rotation about y: z towards x."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def rot_z(degrees: float) -> np.ndarray:
    """Rotation about z: x towards y."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def axis_rotation(vector: np.ndarray) -> np.ndarray:
    """Rotation by |vector| radians about `vector` (Rodrigues)."""
    angle = float(np.sqrt(vector @ vector))
    if angle < 1e-9:
        return np.eye(3)
    x, y, z = vector / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)


def _to_down(direction: np.ndarray) -> np.ndarray:
    """Rotation vector of the smallest turn that takes `direction` to (0, -1, 0)."""
    unit = direction / np.linalg.norm(direction)
    axis = np.array([unit[2], 0.0, -unit[0]])  # unit x (0, -1, 0)
    sine = float(np.linalg.norm(axis))
    return axis * (np.arctan2(sine, -unit[1]) / sine if sine > 1e-9 else 0.0)


_BONE = {name: i for i, name in enumerate(bank().bones)}


def _side_bones(prefixes: tuple[str, ...], side: str) -> list[int]:
    return [i for name, i in _BONE.items() if name.startswith(prefixes) and name.endswith(side)]


_FINGERS = {
    side: [_side_bones(tuple(f"finger{n}-{j}" for n in (2, 3, 4, 5)), side) for j in (1, 2, 3)] for side in (".L", ".R")
}


def _pose_arm(out: dict[int, np.ndarray], arm: Arm, rest: Body, chest: np.ndarray, side: str) -> None:
    sign = 1.0 if side == ".L" else -1.0
    heads = rest.heads
    shoulder, elbow, wrist = (heads[_BONE[b + side]] for b in ("upperarm01", "lowerarm01", "wrist"))
    across = np.radians(arm.around)
    axis = np.array([-np.sin(across), 0.0, sign * np.cos(across)])
    raised = max(0.0, arm.lift - 55.0) * 0.30
    girdle = chest @ axis_rotation(np.radians(raised) * axis * np.array([0.4, 0.4, 1.0]))
    swing = chest @ axis_rotation(np.radians(arm.lift) * axis)
    to_down = _to_down(elbow - shoulder)
    rest_lift = axis_rotation(to_down)
    upper_twist, bend = rot_y(sign * arm.twist), rot_x(-arm.elbow)
    fore = axis_rotation(_to_down(wrist - elbow))
    # Total turn from rest to posed, without twist: the deltoid takes part of it.
    total = np.asarray(girdle.T @ swing @ rest_lift)
    half = axis_rotation(0.45 * rotation_vector(total))
    out[_BONE["clavicle" + side]] = girdle
    out[_BONE["shoulder01" + side]] = girdle @ half
    out[_BONE["upperarm01" + side]] = swing @ rot_y(sign * arm.twist * 0.5) @ rest_lift
    out[_BONE["upperarm02" + side]] = swing @ upper_twist @ rest_lift
    lower = swing @ upper_twist @ bend
    out[_BONE["lowerarm01" + side]] = lower @ rot_y(sign * arm.palm * 0.3) @ fore
    out[_BONE["lowerarm02" + side]] = lower @ rot_y(sign * arm.palm * 0.7) @ fore
    hand = lower @ rot_y(sign * arm.palm) @ fore
    out[_BONE["wrist" + side]] = hand
    # Fingers curl about the axis across the palm of the rest hand.
    knuckles = heads[_BONE["finger5-1" + side]] - heads[_BONE["finger2-1" + side]]
    knuckles = sign * knuckles / np.linalg.norm(knuckles)
    for j, bones in enumerate(_FINGERS[side]):
        curl = hand @ axis_rotation(np.radians(arm.curl * (0.75, 1.55, 2.1)[j]) * knuckles * sign * CURL_SIGN)
        for bone in bones:
            out[bone] = curl


CURL_SIGN = 1.0


def rotation_vector(matrix: np.ndarray) -> np.ndarray:
    """Axis times angle (radians) of a rotation matrix; angles up to just below pi."""
    cosine = np.clip((np.trace(matrix) - 1) / 2, -1.0, 1.0)
    angle = float(np.arccos(cosine))
    axis = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    sine = 2 * np.sin(angle)
    return axis * (angle / sine) if sine > 1e-6 else axis * 0.5


def _pose_leg(out: dict[int, np.ndarray], leg: Leg, rest: Body, pelvis: np.ndarray, side: str) -> None:
    sign = 1.0 if side == ".L" else -1.0
    hip, knee, ankle = (rest.heads[_BONE[b + side]] for b in ("upperleg01", "lowerleg01", "foot"))
    swing = pelvis @ rot_x(-leg.flex) @ rot_z(sign * leg.out)
    thigh = axis_rotation(_to_down(knee - hip))
    twist = rot_y(sign * leg.twist)
    out[_BONE["upperleg01" + side]] = swing @ rot_y(sign * leg.twist * 0.5) @ thigh
    out[_BONE["upperleg02" + side]] = swing @ twist @ thigh
    shank = swing @ twist @ rot_x(leg.knee)
    out[_BONE["lowerleg01" + side]] = shank @ axis_rotation(_to_down(ankle - knee))
    if np.isnan(leg.foot):
        forward = shank[:, 2] if shank[1, 1] > 0.3 else shank[:, 1] * 0.8 + shank[:, 2] * 0.6
        yaw = np.degrees(np.arctan2(forward[0], forward[2]))
        correction = rotation_vector(shank.T @ rot_y(yaw))
        size = float(np.linalg.norm(correction))
        limit = np.radians(48.0)
        foot = shank @ axis_rotation(correction * min(1.0, limit / max(size, 1e-6)))
    else:
        foot = shank @ rot_x(leg.foot)
    out[_BONE["foot" + side]] = foot


def bone_rotations(pose: Pose, rest: Body) -> np.ndarray:
    """World rotations (B,3,3), relative to rest, of all bones of `rest` in `pose`; float32."""
    shared = bank()
    pelvis = rot_y(pose.yaw) @ rot_x(pose.pitch) @ rot_z(-pose.roll)
    out: dict[int, np.ndarray] = {0: pelvis}
    spine = [f"spine0{k}" for k in (5, 4, 3, 2, 1)]
    for share, name in zip((0.15, 0.35, 0.6, 0.85, 1.0), spine, strict=True):
        turn = rot_y(pose.twist * share) @ rot_x(pose.bend * share) @ rot_z(-pose.lean * share)
        out[_BONE[name]] = pelvis @ turn
    chest = out[_BONE["spine01"]]
    for share, name in zip((0.25, 0.45, 0.7, 1.0), ("neck01", "neck02", "neck03", "head"), strict=True):
        turn = rot_y(pose.turn * share) @ rot_x(pose.nod * share) @ rot_z(-pose.tilt * share)
        out[_BONE[name]] = chest @ turn
    _pose_arm(out, pose.left_arm, rest, chest, ".L")
    _pose_arm(out, pose.right_arm, rest, chest, ".R")
    _pose_leg(out, pose.left_leg, rest, pelvis, ".L")
    _pose_leg(out, pose.right_leg, rest, pelvis, ".R")
    rotations = np.empty((len(shared.parents), 3, 3), np.float32)
    for j, parent in enumerate(shared.parents):
        rotations[j] = out[j] if j in out else rotations[parent]
    return rotations
