"""Images of clients, decoded with limits; results as PNG that say how they were made."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from humansd.studio.errors import StudioError

Pixels = NDArray[np.uint8]
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
CHUNK = "humansd"
# IPTC's word for "made by a trained model", as it is written into XMP.
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" Iptc4xmpExt:DigitalSourceType='
    '"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/></rdf:RDF></x:xmpmeta>'
)


def from_base64(text: str, field: str) -> bytes:
    """The bytes of base64, with or without a `data:image/...;base64,` before it. Addresses are refused."""
    head = text[:64].lstrip().lower()
    if head.startswith(("http:", "https:", "file:", "ftp:")):
        raise StudioError(f"{field}: addresses are not opened; send the image itself as base64", code="no_addresses")
    if head.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise StudioError(f"{field}: is not base64; send the image's bytes in base64") from None
    if not data:
        raise StudioError(f"{field}: is empty; send an image in base64")
    return data


def open_image(data: bytes, field: str, most_pixels: int) -> Image.Image:
    """The decoded, upright image. StudioError for one that cannot be read or has more pixels, told before decoding."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width * height > most_pixels:
                raise _too_large(field, width, height, most_pixels)
            image.load()
            if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                image = ImageOps.exif_transpose(image)
            return image
    except (StudioError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise StudioError(f"{field}: has too many pixels; make it smaller", status=413, code="too_large") from None
    except UnidentifiedImageError:
        raise StudioError(f"{field}: is no image that can be read here; send a PNG, JPEG or WebP") from None
    except Exception as error:  # damage makes Pillow raise nearly anything
        reason = re.sub(r"<[^<>]* at 0x\w+>", "the image", f"{type(error).__name__}: {error}").splitlines()[0][:200]
        raise StudioError(f"{field}: cannot be read ({reason}); send a PNG, JPEG or WebP") from None


def rgb_image(data: bytes, field: str, most_pixels: int) -> Pixels:
    """uint8 (H, W, 3) on white where the image is transparent."""
    image = open_image(data, field, most_pixels)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        flat = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(flat, image)
    return np.array(image.convert("RGB"))


def mask_image(data: bytes, field: str, most_pixels: int, *, alpha: bool = False) -> Pixels:
    """uint8 (H, W), white where it is drawn. alpha: an image with transparency is drawn where it is transparent."""
    image = open_image(data, field, most_pixels)
    if alpha and (image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info):
        return np.asarray(255 - np.array(image.convert("RGBA").getchannel("A")), np.uint8)
    return np.array(image.convert("L"))


def png_bytes(image: Image.Image | Pixels, info: Mapping[str, Any] | None = None) -> bytes:
    """PNG; `info` as JSON in the text chunk "humansd", as text in "parameters", and that a model made it in XMP."""
    chunks = PngInfo()
    if info is not None:
        chunks.add_text(CHUNK, json.dumps(dict(info), allow_nan=False))
        chunks.add_itxt("parameters", parameters_text(info))
        chunks.add_itxt("XML:com.adobe.xmp", _XMP)
    stream = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(stream, format="PNG", pnginfo=chunks)
    return stream.getvalue()


def png_info(png: bytes) -> dict[str, Any]:
    """The record that `png_bytes` put into an image of this studio."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:  # the chunks stand before the pixels
        info: dict[str, Any] = json.loads(image.info[CHUNK])
    return info


def to_base64(data: bytes) -> str:
    """Plain base64, without a prefix."""
    return base64.b64encode(data).decode("ascii")


def parameters_text(info: Mapping[str, Any]) -> str:
    """The record of an image in the lines that WebUI writes and other tools read."""
    own = info.get("settings", {})
    width, height = own.get("size", (0, 0))
    words = {
        "Steps": own.get("num_inference_steps"),
        "Sampler": own.get("scheduler") or "model's own",
        "CFG scale": own.get("guidance_scale"),
        "Pose guidance": own.get("pose_guidance_scale"),
        "Seed": info.get("seed"),
        "Size": f"{width}x{height}",
        "Model": own.get("model"),
        "Version": f"humansd {own.get('humansd')}",
    }
    line = ", ".join(f"{key}: {value}" for key, value in words.items() if value is not None)
    negative = f"Negative prompt: {info['negative_prompt']}\n" if info.get("negative_prompt") else ""
    return f"{info.get('prompt', '')}\n{negative}{line}"


def _too_large(field: str, width: int, height: int, most: int) -> StudioError:
    return StudioError(
        f"{field}: has {width} x {height} pixels, more than {most / 1e6:g} million; make it smaller",
        status=413,
        code="too_large",
    )
