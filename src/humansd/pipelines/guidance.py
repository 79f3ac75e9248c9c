"""How strictly one call is held to its text and its pose: scales, when they count, and how branches become one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # seconds, which a mistyped command need not wait for
    from torch import Tensor


@dataclass(frozen=True)
class Guidance:
    """s_t and s_p of `HumanSDPipeline.__call__`, and `end`, the share of the steps after which neither counts."""

    text: float = 5.0
    pose: float = 1.0
    end: float = 1.0

    @classmethod
    def of(cls, values: Any) -> Guidance:
        """From {"text": ..., "pose": ...} and perhaps "end". ValueError for anything else."""
        given = dict(values) if isinstance(values, Mapping) else {}
        fine = given.keys() <= {"text", "pose", "end"} and all(
            isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in given.values()
        )
        if not isinstance(values, Mapping) or not fine or not 0 <= given.get("end", 1.0) <= 1:
            raise ValueError(
                f'guidance is {values!r}; in model_index.json it is finite numbers, {{"text": 5.0, "pose": 1.0}}, and '
                'perhaps "end", the share of the steps that are guided, 0 to 1'
            )
        return cls(**{name: float(one) for name, one in given.items()})

    def config(self) -> dict[str, float]:
        """As model_index.json has it."""
        return {"text": self.text, "pose": self.pose, **({"end": self.end} if self.end != 1 else {})}


@dataclass(frozen=True)
class Window:
    """A part of the steps, as shares of all of them: from `start` (0 is the first step) to before `end` (1: the last
    step counts too).

    Raises:
        ValueError: not 0 <= start <= end <= 1.
    """

    name: str
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end <= 1:
            raise ValueError(
                f"{self.name}_start is {self.start} and {self.name}_end is {self.end}; they are shares of the steps, "
                "0 <= start <= end <= 1"
            )

    def holds(self, step: int, steps: int) -> bool:
        """Whether step number `step` (from 0) of so many lies in it."""
        return self.start * steps <= step + 1e-9 and step + 1e-9 < self.end * steps


@dataclass(frozen=True)
class Branch:
    """One of the UNet's answers: with the text or the negative one, with the pose or a dropped one."""

    text: bool
    pose: bool


@dataclass(frozen=True)
class Steering:
    """Guidance of one call. `text`, `pose`: scales; `rescale`: of Lin et al. 2024, sec. 3.4, 0..1.

    guided: when there is any guidance at all; posed: when the pose's own counts; shown: when the pose is shown.
    """

    text: float
    pose: float
    rescale: float = 0.0
    guided: Window = Window("guidance")
    posed: Window = Window("pose_guidance_scale")
    shown: Window = Window("control_guidance")

    def at(self, step: int, steps: int, has_pose: bool) -> Plan:
        """What this step runs."""
        pose = has_pose and self.shown.holds(step, steps)
        if not self.guided.holds(step, steps):
            return Plan((Branch(True, pose),), 1.0, 1.0, 0.0)
        text = max(1.0, self.text)  # as in diffusers, 1 and less is no guidance
        strength = self.pose if pose and self.posed.holds(step, steps) else 1.0
        if strength != 1:
            branches: tuple[Branch, ...] = (Branch(False, False), Branch(False, True), Branch(True, True))
        elif text != 1:
            branches = (Branch(False, pose), Branch(True, pose))
        else:
            branches = (Branch(True, pose),)
        return Plan(branches, text, strength, self.rescale)


@dataclass(frozen=True)
class Plan:
    """The branches of one step and how their answers become one; the last is the one with the text."""

    branches: tuple[Branch, ...]
    text: float
    pose: float
    rescale: float

    def combine(self, answers: Sequence[Tensor]) -> Tensor:
        """The guided answer, (n, c, h, w), from one of that shape for each branch; `HumanSDPipeline.__call__` has the
        equation."""
        if len(answers) == 1:
            return answers[0]
        guided = answers[-2] + self.text * (answers[-1] - answers[-2])
        if len(answers) == 3:
            guided = guided + (self.pose - 1) * (answers[1] - answers[0])
        return rescaled(guided, answers[-1], self.rescale) if self.rescale else guided


def rescaled(guided: Tensor, conditional: Tensor, share: float) -> Tensor:
    """`guided` with the spread of `conditional`, mixed with it as it was by `share` (Lin et al. 2024, Eq. 15, 16)."""
    axes = tuple(range(1, guided.ndim))
    spread = conditional.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    return guided.lerp(guided * spread, share)
