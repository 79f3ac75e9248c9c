"""Images of a folder made smaller by a factor, with their people, on their way into shards."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from humansd.build.item import Item
from humansd.build.shrink import Shrink
from humansd.cli import main
from humansd.data.shards import read_shards
from tiny_pipeline import standing


def test_people_and_pixels_shrink_together():
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (16, 24, 3), np.uint8), np.ones((4, 4, 1), np.uint8))
    people = standing((96, 64))
    (item,) = Shrink(4)([Item(0, "a", {}, image=image, people=people)])
    assert item.image.shape == (16, 24, 3)
    assert item.people.canvas == (24, 16)
    assert item.people.equals(people.resize(24, 16))
    assert item.extras["original_size"] == [96, 64]
    with pytest.raises(ValueError, match="downsample is 0"):
        Shrink(0)


def test_a_folder_of_photographs_with_texts_becomes_small_images(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(2):
        Image.new("RGB", (512, 400), (60 * number, 90, 120)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"photo, a person number {number}")
    command = ["data", "import", str(folder), "--out", str(tmp_path / "shards"), "--downsample", "4", "--estimator"]
    assert main([*command, "none", "--keep-empty"]) == 0
    samples = list(read_shards(tmp_path / "shards"))
    assert [one.image.shape for one in samples] == [(100, 128, 3)] * 2
    assert samples[0].caption.startswith("photo, a person number")
