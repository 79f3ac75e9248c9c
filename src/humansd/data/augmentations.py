"""Variants of a row of a pack: changes fixed by (row, number), so that what was encoded once is augmented all the same.

Variant 0 is the image as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from humansd.data.image_cache import ImageCache
from humansd.pose.people import People

SMALLEST = 0.8  # side of the window, as a share of the image's
MIRRORED = 0.5  # chance
_SIDES = re.compile(r"\b(left|right)", re.IGNORECASE)


@dataclass(frozen=True)
class Variant:
    """A square window (left, top, side; pixels) of a square image, made as large as the image, then mirrored."""

    left: int
    top: int
    side: int
    mirrored: bool

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 (s, s, 3) -> the same shape."""
        return np.asarray(self._changed(image, cv2.INTER_CUBIC), np.uint8)

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """bool (s, s) -> the share of each pixel that is covered, (s, s)."""
        return np.asarray(self._changed(mask.astype(np.float32), cv2.INTER_LINEAR), np.float32)

    def _changed(self, values: NDArray[Any], how: int) -> NDArray[Any]:
        size = len(values)
        if self.side < size:
            window = values[self.top : self.top + self.side, self.left : self.left + self.side]
            values = np.asarray(cv2.resize(window, (size, size), interpolation=how))
        return values[:, ::-1] if self.mirrored else values

    def people(self, people: People) -> People:
        """The people of that image; joints outside the window are dropped."""
        size = people.canvas[0]
        if self.side < size:
            people = people.crop(self.left, self.top, self.side, self.side).resize(size, size)
        return people.hflip() if self.mirrored else people


def augmentation(image_cache: ImageCache, row: int, number: int) -> Variant:
    """The change number `number` of this row; it depends on the two, the size and whether a mirror image is true to
    the captions."""
    if number == 0:
        return Variant(0, 0, image_cache.size, False)
    rng = np.random.default_rng((row, number))
    mirrored = rng.random() < MIRRORED and may_mirror(image_cache.captions[row], image_cache.people[row])
    side = round(image_cache.size * rng.uniform(SMALLEST, 1))
    left, top = rng.integers(0, image_cache.size - side + 1, 2)
    return Variant(int(left), int(top), side, bool(mirrored))


def may_mirror(captions: Sequence[str], people: People) -> bool:
    """Whether the captions are as true of the mirror image.

    Not if one speaks of left or right. Nor for several people: Atelier's captions name them from left to right, and
    that order alone says who wears what.
    """
    return people.n < 2 and not any(_SIDES.search(caption) for caption in captions)
