"""Pose files that are not JSON: YOLO-pose labels (text) and CVAT's XML."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from humansd.pose.annotators import grouped_people
from humansd.pose.assemble import Reading
from humansd.pose.coco_read import image_stem
from humansd.pose.errors import PoseError
from humansd.pose.files import MAX_IMAGES
from humansd.pose.joints import ASSUMED, JOINT_SETS, OPENPOSE_ORDERS
from humansd.pose.raw import RawFrame, RawPerson

_BOX = 5  # class, and the box by its middle
_MAX_ELEMENTS = 2_000_000
_MARK = b"\xef\xbb\xbf"  # with which Windows begins a text
_LEAST_INSIDE = 0.7  # of the joints lie in the box, made larger by _MARGIN of itself
_MARGIN = 0.25
_NUMBERS = re.compile(rb"[\s0-9.eE+-]*")


def is_yolo(data: bytes) -> bool:
    """Whether the first line holds numbers only, as many as a box with joints has."""
    lines = (line for line in data[: 1 << 16].removeprefix(_MARK).splitlines() if line.strip())
    line = next((line for line in lines if len(line.split()) != _BOX or not _NUMBERS.fullmatch(line)), b"")
    return bool(_NUMBERS.fullmatch(line)) and len(line.split()) > _BOX + 4


def yolo_frames(data: bytes, stem: str, reading: Reading) -> list[RawFrame]:
    """One person a line: class, box (middle x, y, width, height), then each joint's x, y and visibility, all in shares.

    Predictions may have a score (and a track's number) at the end.
    """
    persons = []
    for i, line in enumerate(data.removeprefix(_MARK).splitlines()):
        if not line.strip():
            continue
        where = f"line {i + 1}"
        try:
            values = [float(word) for word in line.split()]
        except ValueError:
            persons.append(RawPerson(None, where, key="person", broken="holds something that is not a number"))
            continue
        x, y, w, h = (*values[1:_BOX], 0.0, 0.0, 0.0, 0.0)[:4]
        if len(values) <= _BOX:
            persons.append(RawPerson(None, where, key="person", broken="holds a box and no joint"))
            continue
        extras: dict[str, Any] = {"bbox": [x - w / 2, y - h / 2, w, h], "class": values[0]}
        points = values[_BOX:]
        size, width, tail = _layout(points, reading)
        if tail:  # a score, and the number of a track
            extras["score"] = points[-tail]
            points = points[:-tail]
        rows = [points[j : j + width] for j in range(0, size * width, width)]
        broken = "" if _in_box(rows, (x, y, w, h)) else "has joints outside its box, as the outline of a segment has"
        orders = {**OPENPOSE_ORDERS, **ASSUMED}
        persons.append(RawPerson(rows or points, where, "person", orders=orders, extras=extras, broken=broken))
    return [RawFrame(stem, persons, units="shares", image=stem)]


def _in_box(rows: list[list[float]], box: tuple[float, float, float, float]) -> bool:
    """Whether most joints that are there lie in or near the box (middle x, y, width, height); a box of nothing tells
    nothing."""
    x, y, w, h = box
    there = [row for row in rows if row[0] or row[1]]
    if not there or w <= 0 or h <= 0:
        return True
    reach = [side * (0.5 + _MARGIN) + 0.01 for side in (w, h)]
    inside = sum(abs(row[0] - x) <= reach[0] and abs(row[1] - y) <= reach[1] for row in there)
    return inside >= _LEAST_INSIDE * len(there)


def _layout(points: list[float], reading: Reading) -> tuple[int, int, int]:
    """Joints, numbers a joint, and numbers behind them; COCO's 17 go before other sets that fit. 0 where none does."""
    sizes = [len(JOINT_SETS[reading.joints])] if reading.joints else list(dict.fromkeys((17, *OPENPOSE_ORDERS)))
    for size in sizes:
        for tail in (0, 1, 2):
            for width in (3, 2):
                behind = points[2 : size * width : 3] if width == 3 else []
                if len(points) == size * width + tail and all(0 <= v <= 1 or v == 2 for v in behind):
                    return size, width, tail
    return 0, 0, 0


def cvat_frames(data: bytes, stem: str, reading: Reading) -> list[RawFrame]:
    """CVAT for images: <image> with <skeleton> or <points>; CVAT for video: <track>s with frames."""
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise PoseError("declares entities, which no pose needs", remedy="Export it again, as CVAT for images.")
    if data.count(b"<") > _MAX_ELEMENTS:
        raise PoseError(f"holds more than {_MAX_ELEMENTS} elements", remedy="Split it.")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError) as error:
        raise PoseError(f"is not valid XML ({error})", remedy="Export it again.") from None
    images, tracks = root.findall("image"), root.findall("track")
    if root.tag != "annotations" or (not images and not tracks):
        raise PoseError("is XML, but not CVAT's", remedy="Export the poses as CVAT for images or as COCO Keypoints.")
    if len(images) > MAX_IMAGES:
        raise PoseError(f"{len(images)} images, the limit is {MAX_IMAGES}", remedy="Split the file.")
    if not images:
        return _video(root, tracks, stem)
    frames = []
    for i, image in enumerate(images):
        canvas = (_number(image.get("width")), _number(image.get("height")))
        name = image.get("name") or f"{stem}_{i:04d}"
        persons = _persons(image, f"image[{i}]")
        frames.append(RawFrame(image_stem(name), persons, canvas, f"image[{i}]", units="pixels", image=name))
    stems = [frame.name for frame in frames]
    for frame in frames:
        if stems.count(frame.name) > 1:
            frame.name = frame.image
    return frames


def _video(root: Any, tracks: list[Any], stem: str) -> list[RawFrame]:
    size = root.find(".//original_size")
    width, height = (_number(size.findtext(key)) for key in ("width", "height")) if size is not None else (None, None)
    canvas = (width, height) if width is not None else None
    frames: dict[int, RawFrame] = {}
    single: dict[int, list[tuple[Any, str, Any]]] = {}
    for i, track in enumerate(tracks):
        for points in track.findall("points"):
            number, pairs = _number(points.get("frame")), _pairs(points.get("points"))
            if number is not None and len(pairs) == 1 and points.get("outside") != "1":
                single.setdefault(number, []).append((track.get("group_id"), str(track.get("label")), pairs[0]))
        for skeleton in track.findall("skeleton"):
            number = _number(skeleton.get("frame"))
            if number is None or skeleton.get("outside") == "1":
                continue
            frame = frames.setdefault(number, _video_frame(number, stem, canvas))
            frame.persons.append(_skeleton(skeleton, f"track[{i}], frame {number}"))
    for number, points in single.items():
        frame = frames.setdefault(number, _video_frame(number, stem, canvas))
        frame.persons += grouped_people(points, f"frame {number}")
    if not frames:
        raise PoseError("holds no skeleton and no point", remedy="Export tracks of skeletons, or of points.")
    return [frames[number] for number in sorted(frames)]


def _video_frame(number: int, stem: str, canvas: Any) -> RawFrame:
    return RawFrame(f"{stem}_{number:04d}", [], canvas, f"frame {number}", units="pixels")


def _persons(image: Any, where: str) -> list[RawPerson]:
    persons = [_skeleton(one, f"{where}.skeleton[{i}]") for i, one in enumerate(image.findall("skeleton"))]
    single = []
    for i, points in enumerate(image.findall("points")):
        pairs = _pairs(points.get("points"))
        if len(pairs) == 1:
            single.append((points.get("group_id"), str(points.get("label")), pairs[0]))
        else:
            persons.append(RawPerson(pairs, f"{where}.points[{i}]", "points"))
    return persons + grouped_people(single, where)


def _skeleton(skeleton: Any, where: str) -> RawPerson:
    named = {}
    for points in skeleton.findall("points"):
        pairs = _pairs(points.get("points"))
        if pairs:
            seen = 0 if points.get("outside") == "1" else 1 if points.get("occluded") == "1" else 2
            named[str(points.get("label"))] = [*pairs[0], seen] if seen else [0, 0, 0]
    if all(label.isdecimal() for label in named):  # joints by number, written in any order
        named = {label: named[label] for label in sorted(named, key=int)}
    return RawPerson(named, where, "points", third="visibility")


def _pairs(text: str | None) -> list[list[float]]:
    try:
        return [[float(v) for v in pair.split(",")] for pair in (text or "").split(";") if pair.strip()]
    except ValueError:
        return []


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdecimal() else None
