"""Points that are dicts, as x and y, a score, a name or a number stand in them under many keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from humansd.pose.errors import PoseError
from humansd.pose.joints import canonical

_NAME_KEYS = ("name", "label", "part", "joint", "class", "class_name", "keypoint", "keypoint_name", "type", "id")
_NUMBER_KEYS = ("class_id", "keypoint_id", "joint_id", "index", "id")
_SCORE_KEYS = (
    "score",
    "confidence",
    "conf",
    "visibility",
    "visible",
    "v",
    "c",
    "probability",
    "likelihood",
    "presence",
)


def columns(value: dict[str, Any]) -> list[list[Any]]:
    more = next((value[k] for k in _SCORE_KEYS if isinstance(value.get(k), list)), None)
    columns = [value["x"], value["y"], *([more] if more else [])]
    if len({len(c) for c in columns}) > 1:
        raise PoseError("has x and y of unequal lengths", field="keypoints", remedy="Export it again.")
    return [list(row) for row in zip(*columns, strict=True)]


def by_number(points: Sequence[Any]) -> Sequence[Any]:
    """Points that bear no joint's name and are numbered from 0 or 1, in the order of their numbers."""
    for key in _NUMBER_KEYS:
        numbers: list[Any] = [point.get(key) if isinstance(point, dict) else None for point in points]
        if all(type(n) is int for n in numbers) and sorted(numbers) in (
            list(range(len(points))),
            list(range(1, len(points) + 1)),
        ):
            return [points[i] for i in sorted(range(len(points)), key=lambda i: numbers[i])]
    return points


def name_of(point: Any) -> str:
    if not isinstance(point, dict):
        return ""
    return next((point[k] for k in _NAME_KEYS if isinstance(point.get(k), str) and canonical(point[k])), "")


def from_dict(point: Any) -> Any:
    """[x, y] or [x, y, score] of a point that is a dict; None of one without a place."""
    if not isinstance(point, dict):
        return point
    place = next((point[k] for k in ("position", "point", "coordinates", "xy") if k in point), point)
    pair = [place.get("x"), place.get("y")] if isinstance(place, dict) else place
    if not isinstance(pair, list) or any(v is None for v in pair[:2]):
        return None
    score = next((point[k] for k in _SCORE_KEYS if isinstance(point.get(k), (int, float))), None)
    return pair[:2] if score is None else [*pair[:2], float(score)]
