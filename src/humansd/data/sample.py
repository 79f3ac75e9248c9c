"""One training pair: a picture, its caption and the people in it; and the bytes it is stored as."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from humansd.pose.people import People

MAX_SIDE_PX = 8192  # longest side of a stored picture
MAX_JSON_BYTES = 4 << 20
IMAGE_MEMBERS = ("png", "jpg", "jpeg", "webp")
# What may be opened as a picture; everything else Pillow knows stays out of reach of a shard.
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP")
_MASK_MEMBER = "mask.png"
_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")
_TEXT_FIELDS = ("caption", "scene", "source", "licence")


class SampleError(ValueError):
    """A sample that cannot be stored or read; the message names the sample, the field and the remedy."""


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture with everything known about it.

    key: unique in its data set, letters, digits, "_" and "-". image: uint8 (H, W, 3) RGB.
    people: key points in pixels of this image, so `people.canvas == (W, H)`.
    scene: scene (style) name. source: where the picture comes from. licence: under which it may be used.
    extras: JSON values by name; `extras["mask"]`, if there, is uint8 (H, W), 0 nobody, i + 1 person i.
    """

    key: str
    image: np.ndarray
    caption: str
    people: People
    scene: str
    source: str
    licence: str
    extras: dict[str, Any] = field(default_factory=dict)


def encode_sample(sample: Sample) -> dict[str, bytes]:
    """The sample as webdataset members {"png", "json", and "mask.png" if it has a mask}; lossless.

    Equal samples give equal bytes. Raises SampleError where a field breaks the rules of `Sample`.
    """
    _check(sample)
    extras = dict(sample.extras)
    mask = extras.pop("mask", None)
    record = {name: getattr(sample, name) for name in _TEXT_FIELDS}
    record |= {"version": 1, "people": sample.people.to_json(), "extras": extras}
    try:
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SampleError(
            f"sample {sample.key!r}: not plain finite JSON ({error}); use str, int, float, list, dict"
        ) from None
    members = {"png": _png_bytes(sample.image), "json": text.encode()}
    if mask is not None:
        members[_MASK_MEMBER] = _png_bytes(mask)
    return members


def decode_sample(members: Mapping[str, Any]) -> Sample:
    """The sample from its webdataset members; "__key__" names it. The picture may be PNG, JPEG or WebP.

    Raises SampleError naming the key and the member that is missing, broken or too large.
    """
    key = str(members.get("__key__", "?"))
    record = _read_record(key, members.get("json"))
    name = next((name for name in IMAGE_MEMBERS if name in members), None)
    if name is None:
        raise SampleError(f"sample {key!r}: no picture; one member of {', '.join(IMAGE_MEMBERS)} is needed")
    extras = dict(record["extras"])
    if _MASK_MEMBER in members:
        extras["mask"] = _read_image(key, _MASK_MEMBER, members[_MASK_MEMBER], "L")
    sample = Sample(
        key=key,
        image=_read_image(key, name, members[name], "RGB"),
        people=People.from_json(record["people"]),
        extras=extras,
        **{field: record[field] for field in _TEXT_FIELDS},
    )
    _check(sample)
    return sample


def _check(sample: Sample) -> None:
    """Raises SampleError unless the fields of the sample agree with each other."""
    who = f"sample {sample.key!r}"
    if not _KEY.fullmatch(sample.key):
        raise SampleError(f"{who}: the key may hold letters, digits, '_' and '-' only, at most 80 of them")
    image = sample.image
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise SampleError(f"{who}: image must be uint8 (H, W, 3) RGB, got {_kind(image)}")
    height, width = image.shape[:2]
    if not 1 <= min(height, width) <= max(height, width) <= MAX_SIDE_PX:
        raise SampleError(f"{who}: image is {width} x {height} px; sides of 1 to {MAX_SIDE_PX} px are allowed")
    if tuple(sample.people.canvas) != (width, height):
        raise SampleError(
            f"{who}: people.canvas is {sample.people.canvas} but the image is {(width, height)}; "
            "resize the people to it"
        )
    mask = sample.extras.get("mask")
    if mask is not None and (
        not isinstance(mask, np.ndarray) or mask.dtype != np.uint8 or mask.shape != (height, width)
    ):
        raise SampleError(f"{who}: extras['mask'] must be uint8 {(height, width)}, got {_kind(mask)}")
    for name in _TEXT_FIELDS:
        if not isinstance(getattr(sample, name), str):
            raise SampleError(f"{who}: {name} must be text, got {_kind(getattr(sample, name))}")


def _kind(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _png_bytes(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _read_image(key: str, member: str, data: bytes, mode: str) -> np.ndarray:
    """uint8 (H, W, 3) for mode "RGB", (H, W) for "L". The size is checked before a pixel is unpacked."""
    try:
        with Image.open(io.BytesIO(data), formats=_IMAGE_FORMATS) as picture:
            if max(picture.size) > MAX_SIDE_PX:
                raise SampleError(
                    f"sample {key!r}: {member} is {picture.size[0]} x {picture.size[1]} px; "
                    f"at most {MAX_SIDE_PX} px a side"
                )
            return np.array(picture.convert(mode))
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise SampleError(f"sample {key!r}: {member} is not a readable picture ({error})") from None


def _read_record(key: str, data: bytes | None) -> dict[str, Any]:
    if data is None:
        raise SampleError(f"sample {key!r}: the member json is missing")
    if len(data) > MAX_JSON_BYTES:
        raise SampleError(f"sample {key!r}: json has {len(data)} bytes; at most {MAX_JSON_BYTES}")
    try:
        record = json.loads(data)
    except ValueError as error:
        raise SampleError(f"sample {key!r}: json is broken ({error})") from None
    fields = ("version", "people", "extras", *_TEXT_FIELDS)
    missing = [name for name in fields if not isinstance(record, dict) or name not in record]
    if missing:
        raise SampleError(f"sample {key!r}: json lacks {', '.join(missing)}; was it written by humansd?")
    if record["version"] != 1:
        raise SampleError(f"sample {key!r}: json has version {record['version']}; this humansd reads version 1")
    return record
