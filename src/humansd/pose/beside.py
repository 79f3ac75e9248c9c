"""What stands beside or around people in a file: the names of their joints, JSON kept as text, arrays of people.

Looked for by content and not by key, as every tool calls them otherwise.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

from humansd.pose.joints import MAX_JOINTS, canonical, names_in_order

_LEVELS, _LOOKED_AT = 6, 300  # of dicts in dicts, and values in all of a level
_FEW = 3
_MAX_TEXT = 4 << 20  # characters of JSON inside JSON
_BETWEEN = re.compile(rb"^\}\s*\n\{", re.MULTILINE)  # of two values; nothing inside one looks so
_POINT_KEYS = ("keypoints", "pose_keypoints_2d", "joints", "keypoints_2d", "landmarks", "pred_keypoints")


def names_beside(value: Any) -> tuple[str, ...]:
    """Canonical joint names, in order, that a file lists once for everybody, at its top or in dicts therein."""
    level = [value] if isinstance(value, dict) else []
    for _ in range(_LEVELS):
        inside = [v for holder in level for v in itertools.islice(holder.values(), _LOOKED_AT)][:_LOOKED_AT]
        texts = next((texts for listed in inside if (texts := _texts(listed))), None)
        if texts:
            return names_in_order(texts)
        level = [v for v in inside if isinstance(v, dict)]
    return ()


def _texts(listed: Any) -> list[str]:
    """The texts of a list, of {"0": text} or of {text: 0}, where most are names of joints; [] otherwise."""
    if not isinstance(listed, (list, dict)) or not _FEW <= len(listed) <= MAX_JOINTS:
        return []
    texts: list[Any] = list(listed.values()) if isinstance(listed, dict) else listed
    if isinstance(listed, dict) and all(type(v) is int for v in texts):
        if sorted(texts) != list(range(len(texts))):
            return []
        texts = sorted(listed, key=lambda name: listed[name])
    elif isinstance(listed, dict) and all(key.isdecimal() for key in listed):
        texts = [listed[key] for key in sorted(listed, key=int)]
    if not all(isinstance(text, str) for text in texts):
        return []
    known = sum(bool(canonical(text)) for text in texts)
    return texts if known >= _FEW and 2 * known > len(texts) else []


def holds(points: Any, count: int) -> bool:
    """Whether points, as a file has them, may be so many joints."""
    while isinstance(points, list) and len(points) == 1 and isinstance(points[0], list):
        points = points[0]
    if isinstance(points, dict):
        points = points.get("x")
        return isinstance(points, list) and len(points) == count
    if not isinstance(points, list) or not points:
        return False
    rows = any(isinstance(v, (list, dict)) for v in points)
    return len(points) == count if rows else len(points) in (2 * count, 3 * count, 4 * count)


def parsed_texts(value: Any) -> Any:
    """A text that is a JSON list or dict, or a list of such texts, as what it says; everything else as it is.

    ComfyUI answers with a list of texts, and each is a list of frames: those become one list.
    """
    texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    if not texts or not all(isinstance(t, str) and t.lstrip()[:1] in ("{", "[") for t in texts):
        return value
    if sum(map(len, texts)) > _MAX_TEXT:
        return value
    try:
        found = [json.loads(text) for text in texts]
    except (ValueError, RecursionError):
        return value
    if isinstance(value, str):
        return found[0]
    return [v for one in found for v in one] if all(isinstance(one, list) for one in found) else found


def lines_as_list(data: bytes) -> bytes:
    """JSON with one value a line, or with several indented ones behind each other, as one list; other text as it is."""
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and _BETWEEN.search(data):
        return b"[" + _BETWEEN.sub(b"},{", data.removeprefix(b"\xef\xbb\xbf")) + b"]"
    lines = [line.strip() for line in data.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()]
    if len(lines) < 2 or not all(line[:1] == b"{" and line[-1:] == b"}" for line in lines):
        return data
    return b"[" + b",".join(lines) + b"]"


def most(value: Any, is_one: Any) -> bool:
    """Whether at least half of a list, which is not empty, are what `is_one` knows."""
    return isinstance(value, list) and bool(value) and 2 * sum(is_one(v) for v in value[:1000]) >= min(len(value), 1000)


def single_people(one: Any) -> list[Any]:
    """A dict of arrays of several people (points (n, k, 2 or 3), scores, boxes), as one dict a person; others alone."""
    if not isinstance(one, dict):
        return [one]
    points = next((one[key] for key in _POINT_KEYS if _is_deep(one.get(key))), None)
    if points is None:
        return [one]
    n = len(points)
    return [{k: v[i] if isinstance(v, list) and len(v) == n else v for k, v in one.items()} for i in range(n)]


def _is_deep(value: Any) -> bool:
    for _ in range(3):
        if not isinstance(value, list) or not value:
            return False
        value = value[0]
    return isinstance(value, (int, float))
