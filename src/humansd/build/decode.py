"""Image files of strangers to pixels: with limits, upright, without what a camera wrote beside the image."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from humansd.data.pixels import DeepImageError, jpeg_scans, pixels_of
from humansd.data.sample import MAX_PIXELS as MAX_STORED_PIXELS
from humansd.data.sample import MAX_SCANNED_PIXELS, MAX_SIDE_PX

MAX_BYTES = 64 << 20  # of an image file
MAX_PIXELS = 100_000_000  # of an image that is decoded; shrunk afterwards
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # not EPS and the like, which start other programs
# Behind a scan: all but FF00, which is data, FFD0 .. FFD7, which are places to go on from, and FF that fills up.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_TABLES = (0xC4, 0xCC, 0xDB, 0xDC, 0xDD)  # segments that may stand between two scans and say how to decode


class ImageError(ValueError):
    """An image file that cannot be used. `reason`: a few words, the same for all alike."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, eq=False)
class Decoded:
    """pixels: uint8 (H, W, 3) RGB, upright. stored: (width, height) px of the file, before it was turned and shrunk.
    upright: the same, turned. jpeg: the file without its metadata, where it decodes to just these pixels."""

    pixels: NDArray[np.uint8]
    stored: tuple[int, int]
    upright: tuple[int, int]
    jpeg: bytes | None


def decode_image(data: bytes, max_side: int = 2048) -> Decoded:
    """An image file as pixels. Turned upright (EXIF), on white where it is transparent, the first frame where it moves,
    shrunk where a side is longer than `max_side` px (0: only beyond what a shard takes).

    Raises:
        ImageError: not a readable image, too large, or of more than 8 bits.
    """
    if len(data) > MAX_BYTES:
        raise ImageError("too many bytes", f"{len(data)}, at most {MAX_BYTES}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                return _decoded(image, data, max_side or MAX_SIDE_PX)
    except (ImageError, MemoryError):
        raise
    except DeepImageError as error:
        raise ImageError("more than 8 bits a channel", str(error)) from None
    except Image.DecompressionBombError as error:  # Pillow's own limit, a little higher
        raise ImageError("too many pixels", str(error)) from None
    except UnidentifiedImageError:
        raise ImageError("not a readable image", f"none of {', '.join(_FORMATS)}") from None
    except Exception as error:  # damage makes Pillow raise nearly anything
        raise ImageError("not a readable image", str(error)) from None


def _decoded(image: Image.Image, data: bytes, max_side: int) -> Decoded:
    stored = image.size
    if stored[0] * stored[1] > MAX_PIXELS:
        raise ImageError("too many pixels", f"{stored[0]} x {stored[1]}, at most {MAX_PIXELS // 10**6} megapixels")
    jpeg = image.format in ("JPEG", "MPO")  # MPO: several in one file
    if jpeg and jpeg_scans(data) * stored[0] * stored[1] > MAX_SCANNED_PIXELS:
        raise ImageError("goes over the image too often", f"{jpeg_scans(data)} scans")
    plain = image.mode == "RGB"
    turned = image.getexif().get(0x0112, 1) not in (0, 1)
    whole: Image.Image = ImageOps.exif_transpose(image) if turned else image
    if whole.has_transparency_data:
        over = whole.convert("RGBA")
        whole = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    pixels = pixels_of(whole)
    upright = whole.size
    small = _shrunk_size(upright, max_side)
    if small != upright:
        pixels = np.asarray(Image.fromarray(pixels).resize(small, Image.Resampling.BOX))
    keeps = jpeg and plain and not turned and small == upright
    return Decoded(pixels, stored, upright, without_metadata(data) if keeps else None)


def _shrunk_size(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    width, height = size
    scale = min(1.0, max_side / max(size), (MAX_STORED_PIXELS / (width * height)) ** 0.5)
    return (width, height) if scale == 1 else (max(1, int(width * scale)), max(1, int(height * scale)))


def without_metadata(data: bytes) -> bytes | None:
    """A JPEG file without what tells where and by whom it was taken: EXIF, XMP, IPTC, comments, thumbnails, what stands
    behind the image, such as a video or another image, and without color profiles, which nothing here reads. Its pixels
    stay as they are.

    None for a file whose segments cannot be followed to its end.
    """
    out, place, in_scans = bytearray(data[:2]), 2, False
    while place + 2 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # padding
            place += 1
            continue
        if marker == 0xD9:
            return bytes(out + data[place : place + 2]) if in_scans else None
        private = 0xE0 <= marker <= 0xEF or marker == 0xFE
        scan = marker == 0xDA
        if in_scans and not (private or scan or marker in _TABLES):
            return None  # damage: a decoder goes on where it thinks best
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4])
        if scan:
            in_scans = True
            behind = _MARKER.search(data, end)
            end = behind.start() if behind else len(data)
        out += _color_segment(marker, data[place + 4 : end]) if private else data[place:end]
        place = end
    return None


def _color_segment(marker: int, content: bytes) -> bytes:
    """What a decoder needs of an application's segment: JFIF's and Adobe's say how color is stored. JFIF's thumbnail is
    left out."""
    if marker == 0xE0 and content.startswith(b"JFIF\0") and len(content) >= 14:
        return b"\xff\xe0\x00\x10" + content[:12] + b"\0\0"
    if marker == 0xEE and content.startswith(b"Adobe") and len(content) >= 12:
        return b"\xff\xee\x00\x0e" + content[:12]
    return b""
