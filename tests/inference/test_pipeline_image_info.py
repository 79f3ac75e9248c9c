"""Images that carry their settings, and contact sheets."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from humansd.inference.image_info import contact_sheet, image_info, read_png_info, write_png
from humansd.pose import People
from tiny_pipeline import standing


def test_png_carries_pixels_and_record(tmp_path):
    pixels = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    people = standing()
    info = image_info(
        "a man, “ukiyo-e” ★", negative_prompt="blur", seed=2**40, people=people, settings={"num_inference_steps": 25}
    )
    path = write_png(tmp_path / "one.png", pixels, info)
    assert np.array_equal(np.asarray(Image.open(path)), pixels)
    back = read_png_info(path)
    assert back == info
    assert People.from_json(back["people"]).equals(people)
    assert list(tmp_path.iterdir()) == [path]


def test_record_without_people():
    assert image_info("a tree")["people"] is None


def test_unwritable_info_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        write_png(tmp_path / "x.png", np.zeros((4, 4, 3), np.uint8), {"seed": np.int64(3)})
    with pytest.raises(ValueError, match=r"ending \.png"):
        write_png(tmp_path / "x.jpg", np.zeros((4, 4, 3), np.uint8), {})
    assert not list(tmp_path.iterdir())


def test_reading_an_image_without_record(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    with pytest.raises(ValueError, match=r"plain\.png: no text chunk 'humansd'"):
        read_png_info(tmp_path / "plain.png")
    (tmp_path / "no.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"no\.png: not a readable image"):
        read_png_info(tmp_path / "no.png")
    with pytest.raises(FileNotFoundError):
        read_png_info(tmp_path / "absent.png")


def test_damaged_record_is_refused(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    for text, message in (("{", "damaged"), ("[1]", "holds a list")):
        chunk = PngInfo()
        chunk.add_text("humansd", text)
        Image.new("RGB", (4, 4)).save(tmp_path / "bad.png", pnginfo=chunk)
        with pytest.raises(ValueError, match=message):
            read_png_info(tmp_path / "bad.png")


def test_contact_sheet_places_pose_then_results():
    red, green, blue = (np.full((20, 30, 3), c, np.uint8) for c in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
    sheet = contact_sheet([(red, [green, blue], "first"), (red, [green], "x" * 300)], margin=4, caption_px=16)
    assert sheet.size == (4 + 3 * 34, 4 + 2 * (20 + 16 + 4))
    assert [sheet.getpixel((x, 14)) for x in (10, 44, 78)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert [sheet.getpixel((x, 54)) for x in (10, 44, 78)] == [(255, 0, 0), (0, 255, 0), (255, 255, 255)]
    caption = np.asarray(sheet)[24:40]
    assert (caption < 128).any()  # there is text
    assert (np.asarray(sheet)[:, -4:] == 255).all()  # the long one was cut
    with pytest.raises(ValueError, match="at least one row"):
        contact_sheet([])
