"""Captions in any script: letters where a font has them, escapes where none has, and no boxes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from humansd.core import glyphs
from humansd.core.glyphs import readable


def drawn(text: str, font: object) -> np.ndarray:
    image = Image.new("L", (400, 24))
    ImageDraw.Draw(image).text((2, 2), text, fill=255, font=font)
    return np.asarray(image)


def test_latin_text_stays_as_it_is() -> None:
    text, font = readable("photo, a café: 2 people")
    assert text == "photo, a café: 2 people"
    assert isinstance(font, ImageFont.FreeTypeFont)


@pytest.mark.parametrize("text", ["фото, женщина", "Φωτογραφία", "写真、女性", "사진", "صورة", "a 🏃"])
def test_no_letter_is_drawn_as_a_box(text: str) -> None:
    shown, font = readable(text)
    box = drawn("\U0010ffff", font)
    for letter in shown:
        assert letter.isspace() or not np.array_equal(drawn(letter, font), box)
    escaped = [letter for letter in text if letter not in shown]
    assert all(letter.encode("ascii", "backslashreplace").decode() in shown for letter in escaped)


def test_without_other_fonts_foreign_letters_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphs, "_FONTS", ())
    assert readable("写 a")[0] == "\\u5199 a"
