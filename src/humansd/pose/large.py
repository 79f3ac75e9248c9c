"""COCO files that are larger than other pose files may be, as COCO's own training annotations (230 to 450 MB).

The text is gone through entry by entry, and of each annotation only what a pose needs is kept: key points as numbers,
not as Python's lists, and no outlines. So it takes about the file's size in memory and some seconds.
"""

from __future__ import annotations

import json
import mmap
import re
from pathlib import Path
from typing import Any

import numpy as np

from humansd.pose.assemble import Reading, note
from humansd.pose.coco_read import coco_frames
from humansd.pose.errors import PoseError
from humansd.pose.files import MAX_FILE_BYTES
from humansd.pose.raw import RawFrame

MAX_COCO_BYTES = 1 << 30
_MAX_ENTRIES = 2_000_000  # images and annotations
_DROPPED = ("segmentation", "caption")  # of an annotation
_KEPT = ("id", "file_name", "width", "height", "pose_name")  # of an image
_START = re.compile(rb'\s*\{\s*"(images|annotations|categories|info|licenses|type)"\s*:')
_SPACE = re.compile(r"[\s,]*")


def is_large_coco(path: Path) -> bool:
    """Whether the file is larger than `MAX_FILE_BYTES`, not larger than `MAX_COCO_BYTES`, and begins as COCO's do."""
    try:
        if not path.is_file() or not MAX_FILE_BYTES < path.stat().st_size <= MAX_COCO_BYTES:
            return False
        with path.open("rb") as stream:
            return bool(_START.match(stream.read(4096).removeprefix(b"\xef\xbb\xbf")))
    except (OSError, ValueError):
        return False


def read_large_coco(path: Path, reading: Reading) -> list[RawFrame]:
    """The images of a large COCO file, as `coco_frames` has them; outlines are left out, with a note."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            text = str(mapped, "utf-8-sig")
    except UnicodeDecodeError:
        raise PoseError("is not JSON text in UTF-8", remedy="Export it again.") from None
    except OSError as error:
        raise PoseError(f"cannot be read ({error.strerror})", remedy="Check its rights.") from None
    try:
        data = _members(text)
    except (RecursionError, ValueError, IndexError, AssertionError) as error:
        raise PoseError(f"is not valid JSON ({error})", remedy="Mend or export it again.") from None
    note("outlines (segmentation) of this large file are left out")
    return coco_frames(data, path.stem, reading)


def _members(text: str) -> dict[str, Any]:
    decoder = json.JSONDecoder()
    data: dict[str, Any] = {}
    place = _skip(text, text.index("{") + 1)
    while text[place] != "}":
        key, place = decoder.raw_decode(text, place)
        place = text.index(":", place) + 1
        place = _skip(text, place)
        if text[place] == "[":
            data[key], place = _entries(text, place + 1, key, decoder)
        else:
            data[key], place = decoder.raw_decode(text, place)
        place = _skip(text, place)
    return data


def _entries(text: str, place: int, key: str, decoder: json.JSONDecoder) -> tuple[list[Any], int]:
    slim = {"annotations": _slim_annotation, "images": _slim_image}.get(str(key))
    entries: list[Any] = []
    place = _skip(text, place)
    while text[place] != "]":
        value, place = decoder.raw_decode(text, place)
        entries.append(slim(value) if slim else value)
        if len(entries) > _MAX_ENTRIES:
            raise PoseError(f"holds more than {_MAX_ENTRIES} entries", field=str(key), remedy="Split it.")
        place = _skip(text, place)
    return entries, place + 1


def _slim_annotation(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    for key in _DROPPED:
        value.pop(key, None)
    points = value.get("keypoints")
    if isinstance(points, list) and all(type(v) in (int, float) for v in points):
        value["keypoints"] = np.array(points, np.float32 if _exact(points) else np.float64)
    return value


def _slim_image(value: Any) -> Any:
    return {key: value[key] for key in _KEPT if key in value} if isinstance(value, dict) else value


def _exact(points: list[Any]) -> bool:
    return all(type(v) is int and abs(v) < 1 << 20 for v in points)


def _skip(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    assert match is not None  # it matches nothing too
    return match.end()
