"""What of each person can be seen in the finished layers: the caption names nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from humansd.synthetic.actions import ACTIONS
from humansd.synthetic.buffers import BOTTOM, HAT, TOP, Buffers
from humansd.synthetic.framing import VIEWS
from humansd.synthetic.plan import PersonPlan, ScenePlan

# Least shares of the image: a garment that is named (9 x 9 of 256 x 256 px), a hat.
NAMED_SHARE = 0.0013
HAT_SHARE = 0.0005
DISTANT = 0.24  # height, share of the frame
CLOSE = {"knees": 0.35, "waist": 0.25, "chest": 0.18}  # least height of such a view that is called by its name
LEAST_HEIGHT = 0.1  # of a person whose sex and action are named
# What is done with the arms and the head, and can be told of somebody whose legs are not in view.
ARM_ACTIONS = frozenset(
    {
        "hands_on_hips", "one_hand_on_hip", "arms_crossed", "t_pose", "arms_low", "hook_punch", "uppercut",
        "robot_dance", "dab", "stretch_up", "stretch_arm", "wave", "wave_high", "wave_both", "salute", "point",
        "point_side", "point_up", "stop", "cheer", "raise_arms", "raise_arm", "raise_fist", "surrender", "flex",
        "clap", "pray", "shrug", "open_arms", "hug", "think", "phone", "text", "photograph", "selfie", "look_far",
        "read", "drink", "eat", "paint", "hands_on_head", "cover_ears", "cover_face", "facepalm", "carry",
        "carry_shoulder", "lift_overhead", "guitar", "violin", "flute", "trumpet", "drum", "conduct", "sing",
        "tennis_serve", "archery", "curl", "press",
    }
)  # fmt: skip
CLOSE_ACTIONS = (*sorted(ARM_ACTIONS), "stand", "hands_in_pockets", "hands_behind")


@dataclass(frozen=True)
class View:
    """What a caption may say of a person. top, bottom, hat: a fair part of it is seen; action: it can be told;
    legs: knees and ankles are in view; framing: one of VIEWS; height: of the joints in view, share of the frame;
    face: near enough to tell a woman from a man; behind: what stands in front, or ""."""

    top: bool = True
    bottom: bool = True
    hat: bool = True
    action: bool = True
    legs: bool = True
    framing: str = "full"
    height: float = 0.7
    face: bool = True
    behind: str = ""

    @property
    def distance(self) -> str:
        """What to call the framing: one of VIEWS, "distant" for who is small and whole; "full" where nothing fits."""
        if self.framing == "full":
            return "distant" if self.height < DISTANT else "full"
        return self.framing if self.height >= CLOSE[self.framing] else "full"


WHOLE = View()


def look(plan: ScenePlan, buffers: Buffers, behind: tuple[str, ...] = ()) -> tuple[View, ...]:
    """The view of each person of the plan."""
    every = slice(1, None, 2)
    code = buffers.person[every, every].astype(np.int64) * 16 + buffers.material[every, every]
    share = np.bincount(code.ravel(), minlength=16 * (len(plan.people) + 1)) / code.size
    names = behind or ("",) * len(plan.people)
    return tuple(_look(p, i, buffers, share, names[i]) for i, p in enumerate(plan.people))


def _look(person: PersonPlan, i: int, buffers: Buffers, share: np.ndarray, behind: str) -> View:
    labelled = buffers.people.visibility[i] > 0
    in_view = labelled & (~buffers.blocked[i] if buffers.blocked is not None else True)
    rows = [in_view[k : k + 2] for k in (15, 13, 11)]
    framing = VIEWS[next((k for k, row in enumerate(rows) if row.any()), 3)]
    tall = float(np.ptp(buffers.people.xy[i, in_view, 1])) / buffers.people.canvas[1] if in_view.any() else 0.0
    legs = bool(in_view[13:17].all())
    mine = share[16 * (i + 1) : 16 * (i + 2)]
    seen = buffers.people.visibility[i] == 2
    return View(
        top=bool(mine[TOP] >= NAMED_SHARE and (in_view[5:7].any() or in_view[11:13].any())),
        bottom=bool(person.bottom is not None and mine[BOTTOM] >= NAMED_SHARE and in_view[13:15].any()
                    and in_view[11:13].any()),
        hat=bool(mine[HAT] >= HAT_SHARE),
        action=tall >= LEAST_HEIGHT and _tells(person.action, in_view, seen, legs),
        legs=legs,
        framing=framing,
        height=tall,
        face=tall >= LEAST_HEIGHT or (framing == "chest" and tall > 0.05),
        behind=behind if framing != "full" else "",
    )  # fmt: skip


def _tells(action: str, in_view: np.ndarray, seen: np.ndarray, legs: bool) -> bool:
    """Whether what somebody does can be told from the joints in view and those not hidden at all."""
    arms = bool(in_view[5:11].all())
    if action in ARM_ACTIONS:
        return arms and int(seen[7:11].sum()) >= 2
    whole = arms and legs and bool(in_view[11:13].all())
    return whole and int(seen[5:].sum()) >= (4 if ACTIONS[action].support == "lie" else 6)
