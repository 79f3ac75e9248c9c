"""Captions in any script on images: in a font that has the letters, and as escapes where none has, never as boxes."""

from __future__ import annotations

import functools
from typing import Any

from PIL import ImageFont

# Tried in turn where Pillow's own font, which has Latin letters, lacks some: what most systems have.
_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "arial.ttf")
_NO_CHARACTER = "\U0010ffff"  # in no font


def readable(text: str, size: float = 10) -> tuple[str, Any]:
    """The text and a font of `size` px that has all its letters; what no installed font has stands as \\uXXXX.

    Of several fonts the one that lacks the fewest is taken.
    """
    fonts = [_font("", size), *(font for name in _FONTS if (font := _font(name, size)) is not None)]
    best, lacking = fonts[0], _lacking(text, fonts[0])
    for font in fonts[1:]:
        if not lacking:
            break
        fewer = _lacking(text, font)
        if len(fewer) < len(lacking):
            best, lacking = font, fewer
    return "".join(_escaped(letter) if letter in lacking else letter for letter in text), best


@functools.lru_cache(32)
def _font(name: str, size: float) -> Any:
    """An installed font, or Pillow's own for ""; None where there is none of that name."""
    try:
        return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    except (OSError, ImportError):  # not installed, or a Pillow without FreeType
        return None if name else ImageFont.load_default()


def _lacking(text: str, font: Any) -> set[str]:
    """Letters of the text that a font has no glyph for."""
    if not isinstance(font, ImageFont.FreeTypeFont):  # a Pillow without FreeType: a font of Latin letters
        return {letter for letter in text if not letter.isspace() and ord(letter) > 255}
    box = _drawn(font, _NO_CHARACTER)
    return {letter for letter in text if letter.isprintable() and not letter.isascii() and _drawn(font, letter) == box}


def _drawn(font: Any, letter: str) -> tuple[Any, bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)


def _escaped(letter: str) -> str:
    return letter.encode("ascii", "backslashreplace").decode()
