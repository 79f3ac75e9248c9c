"""Images made smaller by a whole factor, as CN117392675A does before it looks for key points (by 4, bilinear)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from humansd.build.item import Batch, Item, each

MOST = 16  # times


@dataclass(frozen=True)
class Shrink:
    """Pixels and people `factor` times smaller on each axis; bilinear, with the areas that Pillow averages for it."""

    factor: int

    def __post_init__(self) -> None:
        if not 1 <= self.factor <= MOST:
            raise ValueError(f"downsample is {self.factor}; use a whole factor from 1 to {MOST}")

    def __call__(self, batch: Batch) -> Batch:
        return each(batch, self._shrink)

    def _shrink(self, item: Item) -> Item:
        assert item.image is not None
        height, width = item.image.shape[:2]
        size = (max(1, width // self.factor), max(1, height // self.factor))
        small = np.asarray(Image.fromarray(item.image).resize(size, Image.Resampling.BILINEAR))
        people = None if item.people is None else item.people.resize(*size)
        extras = {"original_size": [width, height], **item.extras}
        return item.but(image=small, data=None, people=people, extras=extras)
