"""What a format adapter hands over: people as a file has them, before joints, units and odd entries are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from humansd.pose.joints import ASSUMED
from humansd.pose.skeleton import COCO17, Skeleton


@dataclass(slots=True)
class RawPerson:
    """A person as a file has it.

    points: in any form that `points.rows_of` reads; key: their field; where: this person in the file, for messages.
    names: canonical names in the order of the points, () where the file has none; unknown_names: how many it lists of
    which none is a joint's. orders: how many points -> joint set that this format means by them; sure: the counts of
    which the format leaves no doubt. third: what is behind x and y, "score", "visibility", or "auto" where the values
    tell; scores: beside the points, if not in them. own_score, own_seen: as HumanSD wrote them, before both. area:
    px^2 or NaN. broken: why the entry cannot be used at all.
    """

    points: Any
    where: str
    key: str = "keypoints"
    names: tuple[str, ...] = ()
    orders: Mapping[int, str] = field(default_factory=lambda: ASSUMED)
    sure: frozenset[int] = frozenset()
    unknown_names: int = 0
    third: str = "auto"
    scores: Any = None
    extras: dict[str, Any] = field(default_factory=dict)
    area: float = float("nan")
    own_score: Any = None
    own_seen: Any = None
    broken: str = ""


@dataclass(slots=True)
class RawFrame:
    """The people of one image as a file has them; `canvas` None where the file does not say.

    skeleton: of the People, where the format fixes it; None takes the smallest that holds what the file names, and
    `empty` where nobody is in the file.
    units: where the format declares them.
    """

    name: str
    persons: list[RawPerson]
    canvas: Any = None
    where: str = ""
    skeleton: Skeleton | None = None
    units: str | None = None
    image: str = ""
    empty: Skeleton = COCO17


_CANVAS_KEYS = (
    ("canvas_width", "canvas_height"), ("width", "height"), ("image_width", "image_height"),
    ("imageWidth", "imageHeight"), ("original_width", "original_height"), ("img_width", "img_height"),
)  # fmt: skip


def canvas_of(data: Any) -> tuple[Any, Any] | None:
    """(width, height) as a frame says them, unchecked, under the names that tools use; None where it does not."""
    found = _sides_of(data) if isinstance(data, dict) else None
    return None if found is None else (_whole(found[0]), _whole(found[1]))


def _whole(side: Any) -> Any:
    """A side that is a text of digits as its number."""
    return int(side) if isinstance(side, str) and side.isdecimal() and len(side) < 9 else side


def _sides_of(data: dict[str, Any]) -> tuple[Any, Any] | None:
    for pair in _CANVAS_KEYS:
        if any(data.get(key) is not None for key in pair):
            return data.get(pair[0]), data.get(pair[1])
    for key in ("canvas", "resolution", "image", "image_size", "size"):
        inside = data.get(key)
        if isinstance(inside, dict) and {"width", "height"} <= set(inside):
            return inside["width"], inside["height"]
        if key in ("canvas", "resolution") and isinstance(inside, list) and len(inside) == 2:
            return inside[0], inside[1]
    return None
