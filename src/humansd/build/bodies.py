"""Stages that judge generated bodies by their key points, and the choice of the best."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from humansd.build.filters import contrast_and_sharpness, person_scores
from humansd.build.item import Batch, Item, each
from humansd.pose.people import People
from humansd.pose.skeleton import COCO17

_BODY = tuple(range(5, 17))  # without the face, which may be turned away
_LIMBS = {
    "upper arms": ((5, 7), (6, 8)),
    "forearms": ((7, 9), (8, 10)),
    "thighs": ((11, 13), (12, 14)),
    "shins": ((13, 15), (14, 16)),
}
_LONGEST = 1.6  # a limb against the torso's height, at most; a torso that is seen from above is left alone


@dataclass(frozen=True)
class AsAsked:
    """Images with as many people as their prompt asks for (extras["wanted_people"]), by people of `joints` joints."""

    joints: int = 5

    def __call__(self, batch: Batch) -> Batch:
        return each(batch, self._judge)

    def _judge(self, item: Item) -> Item:
        assert item.people is not None
        wanted = int(item.extras["wanted_people"])
        found = int((item.people.labelled.sum(axis=1) >= self.joints).sum())
        if found == wanted:
            return item.but(people=item.people.select(item.people.labelled.sum(axis=1) >= self.joints))
        return item.drop("number of people", "too few" if found < wanted else "too many", f"{found}, not {wanted}")


@dataclass(frozen=True)
class PossibleBodies:
    """Images without impossible bodies. Key points show four signs of them: two people who share a torso (extra arms
    or legs are taken for a second person), a limb `twice` as long as that of the other side or far longer than the
    torso, and, of people of whom hips and shoulders are seen, neither elbow or neither knee within the image."""

    shared: float = 0.35
    twice: float = 2.5

    def __call__(self, batch: Batch) -> Batch:
        return each(batch, self._judge)

    def _judge(self, item: Item) -> Item:
        assert item.people is not None
        people = item.people.to_skeleton(COCO17)
        if _shared_torso(people, self.shared):
            return item.drop("body", "extra limbs: two people share a torso")
        for i in range(people.n):
            problem = _impossible(people.xy[i], people.labelled[i], people.canvas, self.twice)
            if problem:
                return item.drop("body", problem)
        return item


def _shared_torso(people: People, near: float) -> bool:
    """Whether the middles of two torsos are closer than `near` of the larger torso."""
    torsos = [_torso(people.xy[i], people.labelled[i]) for i in range(people.n)]
    known = [torso for torso in torsos if torso is not None]
    return any(
        math.dist(a[0], b[0]) < near * max(a[1], b[1]) and min(a[1], b[1]) > 0.5 * max(a[1], b[1])
        for k, a in enumerate(known)
        for b in known[:k]
    )


def _torso(xy: NDArray[np.float64], labelled: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float] | None:
    """Middle and height of the torso; None where shoulders or hips are not known."""
    if not labelled[[5, 6, 11, 12]].all():
        return None
    shoulders, hips = xy[[5, 6]].mean(axis=0), xy[[11, 12]].mean(axis=0)
    return (shoulders + hips) / 2, float(np.linalg.norm(shoulders - hips))


def _impossible(xy: NDArray[np.float64], labelled: NDArray[np.bool_], canvas: tuple[int, int], twice: float) -> str:
    torso = _torso(xy, labelled)
    if torso is None:
        return ""
    height = max(torso[1], float(np.linalg.norm(xy[5] - xy[6])))
    for name, sides in _LIMBS.items():
        lengths = [float(np.linalg.norm(xy[a] - xy[b])) for a, b in sides if labelled[[a, b]].all()]
        if lengths and max(lengths) > _LONGEST * height:
            return f"{name} far too long"
        if len(lengths) == 2 and max(lengths) > twice * max(min(lengths), 0.15 * height):
            return f"{name} of two lengths"
    below = xy[[11, 12], 1].max() + 0.9 * height < canvas[1]
    if not labelled[[7, 8]].any() or (below and not labelled[[13, 14]].any()):
        return "missing limbs"
    return ""


@dataclass(frozen=True)
class Integrity:
    """Images of whose people at least the share `least` of the body's 12 joints is seen, each."""

    least: float = 0.6

    def __call__(self, batch: Batch) -> Batch:
        return each(batch, self._judge)

    def _judge(self, item: Item) -> Item:
        assert item.people is not None
        shares = item.people.to_skeleton(COCO17).labelled[:, _BODY].mean(axis=1)
        if len(shares) and shares.min() < self.least:
            return item.drop("integrity", f"below {self.least:g}", f"{shares.min():.2f}")
        return item.but(extras={**item.extras, "integrity": round(float(shares.min()), 3) if len(shares) else 0.0})


def _certainty(item: Item) -> float:
    """How sure the estimator is of the least sure person."""
    scores = person_scores(item)
    return float(scores.min()) if len(scores) else 0.0


def _certain_and_sharp(item: Item) -> float:
    """The certainty, times how sharp the image is (0..1; a Laplacian of standard deviation 40 is sharp)."""
    return _certainty(item) * min(1.0, contrast_and_sharpness(item)[1] / 40)


QUALITIES: dict[str, Callable[[Item], float]] = {"certainty": _certainty, "certainty-sharpness": _certain_and_sharp}


@dataclass(frozen=True)
class Score:
    """extras["quality"] by the named score (`QUALITIES`)."""

    by: str = "certainty-sharpness"

    def __call__(self, batch: Batch) -> Batch:
        return each(batch, lambda item: item.but(extras={**item.extras, "quality": round(QUALITIES[self.by](item), 5)}))


@dataclass(frozen=True)
class Best:
    """Of a pool, the share of those not left out that have the highest extras["quality"], and of equals the first."""

    share: float = 0.3

    def __call__(self, batch: Batch) -> Batch:
        left = [item for item in batch if not item.left_out]
        best = sorted(left, key=lambda item: (-item.extras["quality"], item.index))[: math.ceil(self.share * len(left))]
        kept = {item.index for item in best}
        reason = f"not among the best {self.share:.0%}"
        return [
            item if item.left_out or item.index in kept else item.drop("quality", reason, str(item.extras["quality"]))
            for item in batch
        ]
