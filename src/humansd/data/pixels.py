"""Pixels of an image that Pillow has opened, without the copies that Pillow makes on the way."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BAND = 256  # rows
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow would cut their values off at 255


class DeepImageError(ValueError):
    """A grey image of more than 8 bits."""


def pixels_of(image: Image.Image, mode: str = "RGB") -> NDArray[np.uint8]:
    """uint8 (H, W, 3) for mode "RGB", (H, W) for "L": what `np.array(image.convert(mode))` gives.

    Converted in bands, so that beside the result there is Pillow's own copy and no third.

    Raises:
        DeepImageError: grey values of 16 or 32 bits, which convert() would turn white.
        Exception: whatever Pillow's decoders raise for a damaged file.
    """
    if image.mode in _DEEP:
        raise DeepImageError("grey values of more than 8 bits; store it with 8")
    image.load()
    width, height = image.size
    out = np.empty((height, width, 3) if mode == "RGB" else (height, width), np.uint8)
    for top in range(0, height, _BAND):
        band = image.crop((0, top, width, min(height, top + _BAND)))
        out[top : top + _BAND] = np.asarray(band if band.mode == mode else band.convert(mode))
    return out


def jpeg_scans(data: bytes) -> int:
    """How often a JPEG file goes over the image; a hostile one does so thousands of times."""
    return data.count(b"\xff\xda")
