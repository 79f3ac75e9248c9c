"""How large an image file is, from its first bytes, so that none is decoded that should not be."""

from __future__ import annotations

import struct
from pathlib import Path, PurePosixPath

MAX_PIXELS = 64_000_000  # of an image that is decoded or drawn
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_HEADER = 1 << 20  # bytes in which an image says how large it is


def image_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels of a PNG, JPEG, WebP or BMP file as stored; None for anything else."""
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return struct.unpack(">II", data[16:24])
        if data[:2] == b"BM":
            width, height = struct.unpack("<ii", data[18:26])
            return abs(width), abs(height)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        return _jpeg(data) if data[:2] == b"\xff\xd8" else None
    except (struct.error, IndexError):  # cut short
        return None


def _webp(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + bits % 2**14, 1 + (bits >> 14) % 2**14
    width, height = struct.unpack("<HH", data[26:30])
    return width % 2**14, height % 2**14


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """From the frame header, behind segments that say how long they are."""
    place = 2
    while data[place] == 0xFF:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[place + 5 : place + 9])
            return width, height
        if marker == 0xFF:  # padding
            place += 1
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return None


def is_image_file(data: bytes) -> bool:
    """Whether the first bytes are those of an image."""
    return data.startswith((b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"II*\0", b"MM\0*")) or (
        data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    )


def other_kind(data: bytes) -> str:
    """What a file is that bears an image's or a pose file's name and is neither, from its first bytes, in words; "" for
    anything else."""
    if data[4:8] == b"ftyp":
        heif = any(brand in data[8:64] for brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"))
        if b"avif" in data[8:64]:
            return "an AVIF image, which is not read here"
        return "a HEIC image, which is not read here" if heif else "a video, which is not read here"
    if data.startswith((b"\x1aE\xdf\xa3",)) or (data[:4] == b"RIFF" and data[8:12] == b"AVI "):
        return "a video, which is not read here"
    if data.startswith(b"%PDF"):
        return "a PDF document"
    text = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page; what was to be downloaded is not there"
    return "an SVG drawing" if text.startswith(b"<svg") else ""


def size_beside(file: Path, name: str) -> tuple[int, int] | None:
    """(width, height) of the image of that name beside a pose file, from its header; None where there is none.

    Looked for in the file's own folder and in `images` in or beside it, where ultralytics has the images of `labels`;
    nothing of `name` but its last part is used.
    """
    last = PurePosixPath(name.replace("\\", "/"))
    names = [last.name, *(f"{stem}{suffix}" for stem in (last.stem, last.name) for suffix in IMAGE_SUFFIXES)]
    for folder in (file.parent, file.parent / "images", file.parent.parent / "images"):
        for one in names:
            try:
                if (folder / one).is_file() and one != file.name:
                    with (folder / one).open("rb") as stream:
                        found = image_size(stream.read(_HEADER))
                    if found:
                        return found
            except (OSError, ValueError):
                continue
    return None
