"""A look at a data set: images, their skeletons and their captions on one sheet."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from humansd.core.files import write_whole
from humansd.core.glyphs import readable
from humansd.data.sample import Sample
from humansd.data.shards import read_shards
from humansd.pose.images import overlay

_MARGIN_PX = 8
_LINE_PX = 14
_TEXT_LINES = 4
_CHAR_PX = 6


def show_shards(source: Path | str, out: Path, *, n: int = 24, columns: int = 3) -> int:
    """Writes a PNG sheet of the first `n` samples of `source` to `out`; returns how many there were."""
    if n < 1 or columns < 1:
        raise ValueError(f"n and columns must be 1 or more, not {n} and {columns}")
    samples = list(islice(read_shards(source), n))
    if not samples:
        raise ValueError(f"{source}: holds no sample to show")
    sheet = sample_sheet(samples, columns)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, lambda file: sheet.save(file, "PNG"))
    return len(samples)


def sample_sheet(samples: Sequence[Sample], columns: int = 3, tile_px: int = 192) -> Image.Image:
    """RGB sheet; a cell: the image, the same darkened under its skeleton, below them the caption."""
    columns = min(columns, len(samples))
    cell_w, cell_h = 2 * tile_px + _MARGIN_PX, tile_px + _TEXT_LINES * _LINE_PX + _MARGIN_PX
    rows = -(-len(samples) // columns)
    sheet = Image.new("RGB", (columns * cell_w + _MARGIN_PX, rows * cell_h + _MARGIN_PX), "white")
    draw = ImageDraw.Draw(sheet)
    for place, sample in enumerate(samples):
        x, y = (_MARGIN_PX + place % columns * cell_w, _MARGIN_PX + place // columns * cell_h)
        for side, pixels in enumerate((sample.image, overlay(sample.image, sample.people, light=1 / 3))):
            tile = ImageOps.pad(Image.fromarray(pixels), (tile_px, tile_px), color="white")
            sheet.paste(tile, (x + side * tile_px, y))
        text, font = readable(f"{sample.key}: {sample.caption}", 11)
        lines = textwrap.wrap(
            text,
            2 * tile_px // _CHAR_PX,
            max_lines=_TEXT_LINES,
            placeholder=" ...",
        )
        draw.multiline_text((x, y + tile_px + 1), "\n".join(lines), fill="black", font=font, spacing=1)
    return sheet
