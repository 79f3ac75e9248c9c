"""Pose files and samples read a second time, by json, numpy and struct alone: what the fuzzer compares with.

Nothing of the package's own readers is used, and nothing is checked that need not be: what a file says is taken as it
stands. These are answers to compare with, not readers to use.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

# Names of joints in the order of each format, as their documentation lists them.
_FACE = ["nose", "left_eye", "right_eye", "left_ear", "right_ear"]
_PARTS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_BODY = [f"{side}_{part}" for part in _PARTS for side in ("left", "right")]
COCO = _FACE + _BODY
HUMANART = [*COCO, "left_finger", "right_finger", "left_toe", "right_toe"]
OPENPOSE = [
    *("nose", "neck"),
    *("right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist"),
    *("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
    *("right_eye", "left_eye", "right_ear", "left_ear"),
]
JOINTS = {"coco17": COCO, "openpose18": OPENPOSE, "humanart21": HUMANART}

Plain = dict[str, Any]  # an image's people: canvas, skeleton, xy, score, visibility, area, extras


_ODD = (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError)


class Unknown(Exception):
    """The independent reader cannot tell what this says."""


def plain_poses(path: Path, canvas: tuple[int, int]) -> dict[str, Plain]:
    """Name -> people of a pose file, as `pose.formats.read_poses` documents them."""
    data = path.read_bytes()
    if data[:2] == b"PK":
        return _npz(data)
    value = json.loads(data.decode("utf-8-sig"))
    try:
        return _of_json(value, path, canvas)
    except _ODD as error:  # what is left of an odd file is not told twice
        raise Unknown(f"{type(error).__name__}: {error}") from None


def _of_json(value: Any, path: Path, canvas: tuple[int, int]) -> dict[str, Plain]:
    if isinstance(value, dict) and "skeleton" in value and "canvas" in value:
        return {value.get("name", path.stem): plain_people(value)}
    if isinstance(value, dict) and "people" in value:
        return dict([_frame(value, canvas, path.stem)])
    if isinstance(value, list):
        many = len(value) > 1
        return dict(_frame(v, canvas, f"{path.stem}_{i:04d}" if many else path.stem) for i, v in enumerate(value))
    return _coco(value, canvas)


def plain_people(value: Plain) -> Plain:
    """Our own JSON of the people of one image."""
    people = value["people"]
    return _people(
        value["skeleton"],
        value["canvas"],
        [[(x, y) for x, y in p["xy"]] for p in people],
        [p["score"] for p in people],
        [p["visibility"] for p in people],
        [p["area"] for p in people],
        [p["extras"] for p in people],
    )


def _people(skeleton: str, canvas: Any, xy: list, score: list, seen: list, area: list, extras: list) -> Plain:
    number = [float("nan") if a is None else float(a) for a in area]
    return {
        "skeleton": skeleton,
        "canvas": [float(side) for side in canvas],
        "xy": [[[float(x), float(y)] for x, y in person] for person in xy],
        "score": [[float(s) for s in person] for person in score],
        "visibility": [[float(v) for v in person] for person in seen],
        "area": ["nan" if a != a else a for a in number],
        "extras": extras,
    }


def _coco(value: Plain, canvas: tuple[int, int]) -> dict[str, Plain]:
    notes = value["annotations"]
    art = any("keypoints_21" in note for note in notes)
    named = [c["keypoints"] for c in value.get("categories", []) if isinstance(c, dict) and "keypoints" in c]
    kinds = [name for name, joints in JOINTS.items() if joints in named]
    kind = "humanart21" if art else kinds[0] if kinds else "coco17"
    if kind == "humanart21" and not art and any(len(_numbers(note["keypoints"])) == 51 for note in notes):
        kind = "coco17"
    _check_names(value, kind)
    images = value["images"]
    if any(
        type(i["id"]) not in (int, str) or not all(type(i.get(k, "")) is str for k in ("file_name", "pose_name"))
        for i in images
    ):
        raise Unknown("an image that is left out")
    stems = [image.get("pose_name", _stem(image)) for image in images]
    poses, used = {}, 0
    for image, stem in zip(images, stems, strict=True):
        of_image = [n for n in notes if type(n["image_id"]) is type(image["id"]) and n["image_id"] == image["id"]]
        rows = _sound(of_image, lambda note: _note(note, kind))
        used += len(rows)
        whole = (image["width"], image["height"]) if {"width", "height"} <= set(image) else canvas
        name = stem if stems.count(stem) == 1 else str(_path(image).with_suffix(""))
        poses[name] = _people(kind, _size(whole), *([list(c) for c in zip(*rows, strict=True)] if rows else [[]] * 5))
    if len(poses) < len(stems):
        raise Unknown("two images of one name")
    if notes and not used:
        raise Unknown("nobody that can be used")
    return poses


def _check_names(value: Plain, kind: str) -> None:
    """Unknown where the joints go by other names than those of the three skeletons in their order."""
    for category in value.get("categories", []):
        listed = category.get("keypoints")
        if listed and listed not in JOINTS.values():
            raise Unknown("joints of other names")


def _sound(entries: list[Any], read: Callable[[Any], tuple]) -> list[tuple]:
    """What can be read of the entries; the others are left out."""
    rows = []
    for entry in entries:
        with contextlib.suppress(*_ODD):
            rows.append(read(entry))
    return rows


def _size(canvas: Any) -> tuple[int, int]:
    if any(type(side) not in (int, float) or not 1 <= side <= 32768 or side != int(side) for side in canvas):
        raise Unknown("an odd canvas")
    return canvas[0], canvas[1]


def _number(value: Any, low: float, high: float) -> float:
    if type(value) not in (int, float) or not low <= value <= high:
        raise ValueError(value)
    return float(value)


def _area(value: Any) -> float | None:
    return None if value is None else _number(value, 0, 1e300)


def _list_of(value: Any, kind: type, what: str) -> list:
    if not isinstance(value, list) or not all(type(v) is kind for v in value):
        raise ValueError(what)
    return value


def _path(image: Plain) -> PurePosixPath:
    return PurePosixPath(image["file_name"].replace("\\", "/"))


def _stem(image: Plain) -> str:
    return _path(image).stem


def _note(note: Plain, kind: str) -> tuple:
    size = 3 * len(JOINTS[kind])
    art = kind == "humanart21" and "keypoints_21" in note
    flat = _numbers(note["keypoints_21"] if art else note["keypoints"])
    if len(flat) != size and not (kind == "humanart21" and len(flat) == 51):
        raise Unknown("another number of joints")
    seen = flat[2::3]
    scores = [1.0 if v > 0 else 0.0 for v in seen]
    if any(v not in (0, 1, 2) for v in seen):
        if all(v == int(v) for v in seen if v not in (0, 1, 2)):
            raise ValueError("no visibility")
        scores = [min(max(v, 0.0), 1.0) for v in seen]
        seen = [2.0 if v > 0 else 0.0 for v in seen]
    own = note.get("humansd", {})
    if set(own) - {"score", "filled"}:
        raise ValueError("other keys")
    filled = _list_of(own.get("filled", []), str, "filled")
    if "score" in own:
        if len(own["score"]) != len(seen):
            raise ValueError("scores of others")
        scores = [min(max(_number(v, -1e300, 1e300), 0.0), 1.0) for v in own["score"]]
    missing = (size - len(flat)) // 3
    fields = {"keypoints", "num_keypoints", "keypoints_21", "num_keypoints_21", "area", "image_id", "humansd", *filled}
    places = list(zip(flat[::3], flat[1::3], strict=True))
    area = _area(None if "area" in filled else note.get("area"))
    extras = {k: v for k, v in note.items() if k not in fields}
    _check_depth(extras)
    zeros = [0.0] * missing
    return [*places, *[(0.0, 0.0)] * missing], [*scores, *zeros], [*seen, *zeros], area, extras


def _check_depth(value: Any, depth: int = 0) -> None:
    if depth > 32:
        raise ValueError("too deep")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(inner, (dict, list)):
            _check_depth(inner, depth + 1)


def _numbers(value: Any) -> list[float]:
    value = json.loads(value) if isinstance(value, str) else value
    if not isinstance(value, list):
        raise Unknown("points in another form")
    if any(isinstance(v, (list, dict)) for v in value):
        raise Unknown("points in another form")
    return [_number(0 if v is None else v, -1.7e308, 1.7e308) for v in value]


def _frame(value: Plain, canvas: tuple[int, int], stem: str) -> tuple[str, Plain]:
    own = value.get("humansd", {})
    size = value.get("canvas_width"), value.get("canvas_height")
    kind = own.get("skeleton", "openpose18")
    if (
        kind not in ("openpose18", "coco17")
        or set(own) - {"name", "skeleton", "units"}
        or not isinstance(value["people"], list)
    ):
        raise Unknown("a frame that is left out")
    rows = _sound(value["people"], lambda person: _body(person, kind))
    if (value["people"] and not rows) or {"width", "height", "canvas", "resolution", "image"} & set(value):
        raise Unknown("nobody that can be used, or another canvas")
    people = _people(
        kind,
        canvas if size == (None, None) else _size(size),
        *([list(column) for column in zip(*rows, strict=True)] if rows else [[]] * 5),
    )
    return own.get("name", stem[:-10] if stem.endswith("_keypoints") else stem), people


def _body(person: Plain, kind: str) -> tuple:
    if person.get("pose_keypoints_2d") is None:
        raise Unknown("points of another name") if set(person) & {"pose_keypoints", "keypoints", "joints"} else KeyError
    flat = _numbers(person["pose_keypoints_2d"])
    if len(flat) not in (54, 75):
        raise Unknown("another number of joints")
    joints = [(x, y, min(max(s, 0.0), 1.0)) for x, y, s in zip(flat[::3], flat[1::3], flat[2::3], strict=True)]
    extras = {k: v for k, v in person.items() if k not in ("pose_keypoints_2d", "humansd")}
    if len(joints) == 25:  # BODY_25 has a hip in the middle at 8, and feet from 19 on
        extras["body_25_rest"] = [c for i in (8, *range(19, 25)) for c in joints[i]]
        joints = joints[:8] + joints[9:19]
    own = person.get("humansd", {})
    if set(own) - {"visibility", "area"}:
        raise ValueError("other keys")
    seen = own.get("visibility")
    if seen is None:
        seen = [2 if s > 0 else 0 for _, _, s in joints]
    if any(_number(v, 0, 2) != int(v) for v in seen) or len(seen) != len(joints):
        raise ValueError("no visibilities")
    area = _area(own.get("area"))
    _check_depth(extras)
    if kind == "coco17":
        order = [OPENPOSE.index(name) for name in COCO]
        joints, seen = [joints[i] for i in order], [seen[i] for i in order]
    return [j[:2] for j in joints], [j[2] for j in joints], seen, area, extras


def _npz(data: bytes) -> dict[str, Plain]:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = {name: file[name] for name in ("xy", "score", "visibility", "area", "meta")}
    poses, joint, person = {}, 0, 0
    for image in json.loads(bytes(arrays["meta"].tolist()).decode("utf-8-sig"))["pictures"]:
        n, k = len(image["extras"]), len(JOINTS[image["skeleton"]])
        rows = range(joint, joint + n * k, k)
        poses[image["name"]] = _people(
            image["skeleton"],
            image["canvas"],
            [arrays["xy"][i : i + k].tolist() for i in rows],
            [arrays["score"][i : i + k].tolist() for i in rows],
            [arrays["visibility"][i : i + k].tolist() for i in rows],
            arrays["area"][person : person + n].tolist(),
            image["extras"],
        )
        joint, person = joint + n * k, person + n
    return poses


# -- samples ------------------------------------------------------------------------------------------------------


def plain_members(data: bytes) -> list[tuple[str, bytes]]:
    """(name, content) of every plain file that a sound header in a ustar file stands before."""
    blocks = np.frombuffer(data[: len(data) // 512 * 512], np.uint8).reshape(-1, 512)
    sums = blocks.sum(axis=1, dtype=np.int64) - blocks[:, 148:156].sum(axis=1, dtype=np.int64) + 256
    found, free = [], 0
    for i in range(len(blocks)):
        text = bytes(blocks[i, 148:156]).split(b"\0")[0].strip()
        if i < free or not re.fullmatch(rb"[0-7]+", text) or int(text, 8) != sums[i]:
            continue
        digits = bytes(blocks[i, 124:136]).split(b"\0")[0].strip()
        if not re.fullmatch(rb"[0-7]*", digits):
            continue
        size = int(digits or b"0", 8)
        name = bytes(blocks[i, :100]).split(b"\0")[0].decode()
        found.append((name, data[512 * (i + 1) : 512 * (i + 1) + size]))
        free = i + 1 + -(-size // 512)
    return found


def plain_sample(members: dict[str, bytes]) -> Plain:
    """A sample of its members by name, the image and the mask as arrays (None: not known)."""
    record = json.loads(members["json"])
    kind = next(kind for kind in ("png", "jpg", "jpeg", "webp") if kind in members)
    return {
        **{name: record[name] for name in ("caption", "scene", "source", "extras")},
        "license": record["license"] if "license" in record else record["licence"],
        "people": plain_people(record["people"]),
        "image": plain_image(members[kind]),
        "mask": plain_image(members["mask.png"]) if "mask.png" in members else None,
    }


def plain_image(data: bytes) -> np.ndarray | None:
    """uint8 (h, w, 3) RGB, or (h, w) for a grey PNG. None for a PNG of other than 8 bits, a palette or in passes."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        return None if image is None else np.asarray(image)
    place, packed, about = 8, b"", (0,) * 7
    while place + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[place : place + 8])
        content = data[place + 8 : place + 8 + size]
        if kind == b"IHDR":
            about = struct.unpack(">IIBBBBB", content[:13])
        packed += content if kind == b"IDAT" else b""
        place += 12 + size
    width, height, bits, colors, _, _, passes = about
    if bits != 8 or colors not in (0, 2, 6) or passes or width * height > 1 << 20:
        return None
    channels = {0: 1, 2: 3, 6: 4}[colors]
    rows = _inflated(packed)
    if len(rows) < height * (1 + width * channels):
        return None
    image = _unfiltered(rows, width * channels, height, channels).reshape(height, width, channels)
    return image[..., 0] if channels == 1 else image[..., :3]


def _inflated(packed: bytes) -> bytes:
    """What a zlib stream holds before it breaks."""
    stream, out = zlib.decompressobj(), b""
    with contextlib.suppress(zlib.error):
        for i in range(len(packed)):
            out += stream.decompress(packed[i : i + 1])
    return out


def _unfiltered(rows: bytes, stride: int, height: int, channels: int) -> np.ndarray:
    """The PNG filters taken back, byte by byte."""
    out = np.zeros((height + 1, channels + stride), np.int64)  # a row of zeros above, a pixel of zeros to the left
    for y in range(height):
        line = rows[y * (stride + 1) : (y + 1) * (stride + 1)]
        if line[0] > 4:
            return np.zeros(0)
        for x in range(stride):
            left, up, corner = (int(v) for v in (out[y + 1, x], out[y, x + channels], out[y, x]))
            guess = (0, left, up, (left + up) // 2, _paeth(left, up, corner))[line[0]]
            out[y + 1, x + channels] = (line[1 + x] + guess) % 256
    return out[1:, channels:].astype(np.uint8)


def _paeth(left: int, up: int, corner: int) -> int:
    estimate = left + up - corner
    return min((left, up, corner), key=lambda v: abs(estimate - v))
