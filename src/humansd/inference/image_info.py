"""Images that carry how they were made, and sheets that show poses beside their images."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from humansd.core.files import write_whole
from humansd.core.glyphs import readable
from humansd.core.names import renamed_sampling
from humansd.pose.people import People

CHUNK = "humansd"
PARAMETERS = "parameters"  # the chunk that galleries and other tools read
ImageArray = Image.Image | np.ndarray


def image_info(
    prompt: str,
    *,
    negative_prompt: str = "",
    seed: int | None = None,
    people: People | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The JSON-able record of one image, keys as the arguments; people as `People.to_json()` or None."""
    return {
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "seed": seed,
        "settings": dict(settings or {}),
        "people": None if people is None else people.to_json(),
    }


def write_png(path: str | os.PathLike[str], image: ImageArray, info: Mapping[str, Any]) -> Path:
    """Write a PNG with `info` as JSON in the text chunk "humansd", and, of an image's record, as `parameters_text` in
    the chunk "parameters". The file appears only when it is complete.

    Args:
        path: ends in .png; its folder exists.
        image: PIL, or uint8 (H, W, 3) RGB.
        info: JSON-able, usually from `image_info`.

    Raises:
        ValueError: another file ending, or an info that JSON cannot hold.
        OSError: the disk does not take it.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path}: the settings are kept in a PNG; give the file the ending .png")
    try:
        text = json.dumps(dict(info), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: info cannot be written as JSON ({error}); use numbers, texts, lists, dicts"
        ) from error
    chunks = PngInfo()
    chunks.add_text(CHUNK, text)
    if "prompt" in info:
        chunks.add_text(PARAMETERS, parameters_text(info))
    write_whole(path, lambda stream: _pil(image).save(stream, format="PNG", pnginfo=chunks))
    return path


def parameters_text(info: Mapping[str, Any]) -> str:
    """The record of an image as AUTOMATIC1111's web UI writes it, which galleries and model sites read: the prompt, a
    line "Negative prompt: ...", and a line of settings. What it has no word for is left out."""
    settings = info.get("settings") or {}
    size = settings.get("size")
    named = {
        "Steps": settings.get("num_inference_steps"),
        "Sampler": settings.get("scheduler") or None,
        "CFG scale": settings.get("guidance_scale"),
        "Seed": info.get("seed"),
        "Size": f"{size[0]}x{size[1]}" if size else None,
        "Model": settings.get("model"),
        "Denoising strength": settings.get("strength"),
        "Version": f"humansd {settings['humansd']}" if settings.get("humansd") else None,
    }
    line = ", ".join(f"{key}: {value}" for key, value in named.items() if value is not None)
    negative = info.get("negative_prompt")
    lines = [str(info["prompt"]), f"Negative prompt: {negative}" if negative else "", line]
    return "\n".join(one for one in lines if one)


def read_png_info(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The record that `write_png` put into an image.

    Raises:
        ValueError: not a PNG, or one without a readable "humansd" text chunk.
    """
    try:
        with Image.open(path) as image:
            image.load()  # text chunks may stand behind the pixels
            text = image.info.get(CHUNK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{os.fspath(path)}: not a readable image ({error})") from error
    if not isinstance(text, str):
        raise ValueError(
            f"{os.fspath(path)}: no text chunk {CHUNK!r}; the image was not written by humansd, or a "
            "program removed its metadata"
        )
    try:
        info = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{os.fspath(path)}: the text chunk {CHUNK!r} is damaged ({error})") from error
    if not isinstance(info, dict):
        raise ValueError(f"{os.fspath(path)}: the text chunk {CHUNK!r} holds a {type(info).__name__}, not a record")
    return info | {"settings": renamed_sampling(info.get("settings"))}


def contact_sheet(
    rows: Sequence[tuple[ImageArray, Sequence[ImageArray], str]], *, margin: int = 6, caption_px: int = 18
) -> Image.Image:
    """One sheet: each row a drawn pose, its resulting images, and a caption below.

    Args:
        rows: (drawn pose, results, caption). Images of a row share one height in the sheet, the tallest
            one's width and height set the cell; nothing is enlarged. A long caption is cut with "...".
        margin: px between cells.
        caption_px: height of the line of text.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    cells = [([_pil(pose), *map(_pil, results)], label) for pose, results, label in rows]
    cell_width = max(image.width for images, _ in cells for image in images)
    columns = max(len(images) for images, _ in cells)
    heights = [max(image.height for image in images) + caption_px for images, _ in cells]
    size = (margin + columns * (cell_width + margin), margin + sum(heights) + margin * len(rows))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    top = margin
    for (images, label), height in zip(cells, heights, strict=True):
        for column, image in enumerate(images):
            sheet.paste(image, (margin + column * (cell_width + margin), top))
        text, font = readable(" ".join(label.split()))
        text = _shorten(text, font, size[0] - 2 * margin)
        pen.text((margin, top + height - caption_px + 3), text, fill="black", font=font)
        top += height + margin
    return sheet


def _shorten(text: str, font: Any, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _pil(image: ImageArray) -> Image.Image:
    return image if isinstance(image, Image.Image) else Image.fromarray(image)
