"""One training pair: an image, its caption and the people in it; and the bytes it is stored as."""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from humansd.core.names import FORMER
from humansd.data.pixels import DeepImageError, jpeg_scans, pixels_of
from humansd.pose.checks import MAX_DEPTH, depth, is_text, shown
from humansd.pose.errors import PoseError
from humansd.pose.files import json_memory
from humansd.pose.people import People

MAX_SIDE_PX = 8192  # longest side of a stored image
MAX_PIXELS = 25_000_000  # of a stored image; a WebP of as many takes 400 MB to decode
MAX_SCANNED_PIXELS = 500_000_000  # of a JPEG, all its scans together
MAX_JSON_BYTES = 4 << 20
MAX_JSON_MEMORY = 100 * 10**6  # bytes of the values in it
IMAGE_MEMBERS = ("png", "jpg", "jpeg", "webp")
# What may be opened as an image; everything else Pillow knows stays out of reach of a shard.
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP")
_MASK_MEMBER = "mask.png"
_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")
_TEXT_FIELDS = ("caption", "scene", "source", "license")


class SampleError(ValueError):
    """A sample that cannot be stored or read; the message names the sample, the field and the remedy."""


@dataclass(frozen=True, eq=False)
class Sample:
    """An image with everything known about it.

    key: unique in its data set, letters, digits, "_" and "-". image: uint8 (H, W, 3) RGB.
    people: key points in pixels of this image, so `people.canvas == (W, H)`.
    scene: scene (style) name. source: where the image comes from. license: under which it may be used.
    extras: JSON values by name; `extras["mask"]`, if there, is uint8 (H, W), 0 nobody, i + 1 person i;
    `extras["captions"]`, if there, is a list of other wordings of the caption.
    """

    key: str
    image: np.ndarray
    caption: str
    people: People
    scene: str
    source: str
    license: str
    extras: dict[str, Any] = field(default_factory=dict)


def encode_sample(sample: Sample, stored: tuple[str, bytes] | None = None) -> dict[str, bytes]:
    """The sample as webdataset members {"png", "json", and "mask.png" if it has a mask}; lossless.

    stored: name (of `IMAGE_MEMBERS`) and bytes of an image file that decodes to just `sample.image`; it takes the
    place of the PNG, so that a photograph stays the JPEG that it was. Equal samples give equal bytes.

    Raises SampleError where a field breaks the rules of `Sample`.
    """
    _check(sample)
    extras = dict(sample.extras)
    mask = extras.pop("mask", None)
    record = {name: getattr(sample, name) for name in _TEXT_FIELDS}
    record |= {"version": 1, "people": sample.people.to_json(), "extras": extras}
    try:
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise SampleError(
            f"sample {sample.key!r}: not plain finite JSON ({error}); use str, int, float, list, dict"
        ) from None
    if not is_text(text):
        raise SampleError(f"sample {sample.key!r}: extras hold half a character (a lone surrogate); write it anew")
    name, data = stored or ("png", _png_bytes(sample.image))
    members = {name: data, "json": text.encode()}
    if mask is not None:
        members[_MASK_MEMBER] = _png_bytes(mask)
    return members


def decode_sample(members: Mapping[str, Any]) -> Sample:
    """The sample from its webdataset members; "__key__" names it. The image may be PNG, JPEG or WebP.

    Raises SampleError naming the key and the member that is missing, broken or too large.
    """
    key, record, name, people = _known(members)
    extras = dict(record["extras"])
    if _MASK_MEMBER in members:
        extras["mask"] = _read_image(key, _MASK_MEMBER, members[_MASK_MEMBER], "L")
    sample = Sample(
        key=key,
        image=_read_image(key, name, members[name], "RGB"),
        people=people,
        extras=extras,
        **{field: record[field] for field in _TEXT_FIELDS},
    )
    _check(sample)
    return sample


def check_headers(members: Mapping[str, Any]) -> None:
    """What `decode_sample` refuses and the headers of the images tell, without decoding a pixel.

    Raises SampleError as `decode_sample`.
    """
    key, record, name, people = _known(members)
    size = _stored_size(key, name, members[name])
    if tuple(people.canvas) != size:
        raise SampleError(_other_canvas(key, people, size))
    if _MASK_MEMBER in members and _stored_size(key, _MASK_MEMBER, members[_MASK_MEMBER]) != size:
        raise SampleError(f"sample {key!r}: {_MASK_MEMBER} must be as large as the image, {size}")
    for text in _TEXT_FIELDS:
        _check_text(f"sample {key!r}: {text}", record[text])


def _known(members: Mapping[str, Any]) -> tuple[str, dict[str, Any], str, People]:
    """Key, record, name of the image's member and people. SampleError where one is missing or broken."""
    key = str(members.get("__key__", "?"))
    record = _read_record(key, members.get("json"))
    names = [name for name in IMAGE_MEMBERS if name in members]
    if len(names) != 1:
        problem = f"{len(names)} images ({', '.join(names)})" if names else "no image"
        raise SampleError(f"sample {key!r}: {problem}; one member of {', '.join(IMAGE_MEMBERS)} is needed")
    try:
        people = People.from_json(record["people"])
    except PoseError as error:
        raise SampleError(f"sample {key!r}: people: {error}") from None
    return key, record, names[0], people


def _stored_size(key: str, member: str, data: bytes) -> tuple[int, int]:
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=_IMAGE_FORMATS) as image:
            width, height = image.size
    except Exception as error:  # damage makes Pillow raise nearly anything
        raise SampleError(f"sample {key!r}: {member} is not a readable image ({error})") from None
    _check_size(f"sample {key!r}: {member}", width, height)
    return width, height


def _other_canvas(key: str, people: People, size: tuple[int, int]) -> str:
    return f"sample {key!r}: people.canvas is {people.canvas} but the image is {size}; resize the people to it"


def _check(sample: Sample) -> None:
    """Raises SampleError unless the fields of the sample agree with each other."""
    who = f"sample {sample.key!r}"
    if not _KEY.fullmatch(sample.key):
        raise SampleError(f"{who}: the key may hold letters, digits, '_' and '-' only, at most 80 of them")
    image = sample.image
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise SampleError(f"{who}: image must be uint8 (H, W, 3) RGB, got {_kind(image)}")
    height, width = image.shape[:2]
    _check_size(f"{who}: image", width, height)
    if tuple(sample.people.canvas) != (width, height):
        raise SampleError(_other_canvas(sample.key, sample.people, (width, height)))
    mask = sample.extras.get("mask")
    if mask is not None and (
        not isinstance(mask, np.ndarray) or mask.dtype != np.uint8 or mask.shape != (height, width)
    ):
        raise SampleError(f"{who}: extras['mask'] must be uint8 {(height, width)}, got {_kind(mask)}")
    for name in _TEXT_FIELDS:
        _check_text(f"{who}: {name}", getattr(sample, name))
    captions = sample.extras.get("captions", [])
    if not isinstance(captions, list):
        raise SampleError(f"{who}: extras['captions'] must be a list of texts, got {_kind(captions)}")
    for caption in captions:
        _check_text(f"{who}: extras['captions']", caption)
    if depth({name: value for name, value in sample.extras.items() if name != "mask"}) > MAX_DEPTH:
        raise SampleError(f"{who}: extras are nested deeper than {MAX_DEPTH}; make them flatter")


def _check_text(where: str, text: object) -> None:
    if not isinstance(text, str):
        raise SampleError(f"{where} must be text, got {_kind(text)}")
    if not is_text(text):
        raise SampleError(f"{where} holds half a character (a lone surrogate); write the text anew")


def _check_size(where: str, width: int, height: int) -> None:
    if not 1 <= min(height, width) <= max(height, width) <= MAX_SIDE_PX:
        raise SampleError(f"{where} is {width} x {height} px; sides of 1 to {MAX_SIDE_PX} px are allowed")
    if width * height > MAX_PIXELS:
        raise SampleError(
            f"{where} is {width} x {height} px; at most {MAX_PIXELS // 10**6} megapixels; make it smaller"
        )


def _kind(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def _png_bytes(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _read_image(key: str, member: str, data: bytes, mode: str) -> np.ndarray:
    """uint8 (H, W, 3) for mode "RGB", (H, W) for "L". The size is checked before a pixel is unpacked."""
    try:
        with Image.open(io.BytesIO(data), formats=_IMAGE_FORMATS) as image:
            width, height = image.size
            _check_size(f"sample {key!r}: {member}", width, height)
            if image.format in ("JPEG", "MPO") and jpeg_scans(data) * width * height > MAX_SCANNED_PIXELS:
                raise SampleError(f"sample {key!r}: {member} takes {jpeg_scans(data)} scans; write the image anew")
            return pixels_of(image, mode)
    except (SampleError, MemoryError):
        raise
    except DeepImageError as error:
        raise SampleError(f"sample {key!r}: {member} has {error}") from None
    except Exception as error:  # damage makes Pillow raise nearly anything, from IndexError to zlib.error
        raise SampleError(f"sample {key!r}: {member} is not a readable image ({error})") from None


def _read_record(key: str, data: bytes | None) -> dict[str, Any]:
    if data is None:
        raise SampleError(f"sample {key!r}: the member json is missing")
    if len(data) > MAX_JSON_BYTES:
        raise SampleError(f"sample {key!r}: json has {len(data)} bytes; at most {MAX_JSON_BYTES}")
    if json_memory(data) > MAX_JSON_MEMORY:
        raise SampleError(f"sample {key!r}: json takes more than {MAX_JSON_MEMORY // 10**6} MB of memory; shorten it")
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SampleError(f"sample {key!r}: json is broken ({error})") from None
    if isinstance(record, dict):
        record = {FORMER.get(name, name): value for name, value in record.items()}
    fields = ("version", "people", "extras", *_TEXT_FIELDS)
    missing = [name for name in fields if not isinstance(record, dict) or name not in record]
    if missing:
        raise SampleError(f"sample {key!r}: json lacks {', '.join(missing)}; was it written by humansd?")
    if record["version"] != 1:
        raise SampleError(f"sample {key!r}: json has version {shown(record['version'])}; this humansd reads version 1")
    if not isinstance(record["extras"], dict):
        raise SampleError(f"sample {key!r}: extras must be values by name, got {_kind(record['extras'])}")
    return dict(record)
