"""What older pose editors write: points of 18 joints without names, beside the canvas or kept as presets."""

from __future__ import annotations

from typing import Any

from humansd.pose.assemble import Reading
from humansd.pose.beside import most
from humansd.pose.files import MAX_IMAGES
from humansd.pose.joints import OPENPOSE_ORDERS
from humansd.pose.raw import RawFrame, RawPerson, canvas_of
from humansd.pose.skeleton import OPENPOSE18


def editor_frames(value: Any, stem: str, reading: Reading) -> list[RawFrame]:
    """Older editors: points of all people one after another, 18 a person, beside width and height."""
    points = value["keypoints"]
    size = 18
    rows = points if isinstance(points, list) else []
    flat = [rows[i : i + size] for i in range(0, len(rows), size)]
    together = (
        len(rows) > size and len(rows) % size == 0 and all(isinstance(p, (list, dict)) and len(p) <= 4 for p in rows)
    )
    nested = most(rows, lambda v: isinstance(v, list) and len(v) > 4)
    groups = flat if together else rows if nested else [points]
    persons = [
        RawPerson(one, f"keypoints[{i}]", orders=OPENPOSE_ORDERS, sure=frozenset((18, 25)))
        for i, one in enumerate(groups)
    ]
    return [RawFrame(stem, persons, canvas_of(value), image=stem)]


def is_presets(value: Any) -> bool:
    """Whether it is name -> 18 points, as older editors keep poses; fewer than all of them is something else."""
    if not isinstance(value, dict) or not 0 < len(value) <= MAX_IMAGES:
        return False
    size = len(OPENPOSE18)
    return all(isinstance(v, list) and len(v) == size and all(map(_is_pair, v)) for v in value.values())


def _is_pair(point: Any) -> bool:
    return isinstance(point, list) and len(point) in (2, 3) and all(isinstance(v, (int, float)) for v in point)


def preset_frames(value: Any, stem: str, reading: Reading) -> list[RawFrame]:
    """One image a name."""
    sure = frozenset((18,))
    return [
        RawFrame(name, [RawPerson(points, name, orders=OPENPOSE_ORDERS, sure=sure)], image=name)
        for name, points in value.items()
    ]
