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

from humansd.data.buckets import BucketedCache
from humansd.data.image_cache import ImageCache
from humansd.pose.people import People

SMALLEST = 0.8  # side of the window, as a share of the image's
MIRRORED = 0.5  # chance
_SIDES = re.compile(r"\b(left|right)", re.IGNORECASE)


@dataclass(frozen=True)
class Variant:
    """A window of the image's shape (left, top, and `side`, its width; pixels), made as large as the image, then
    mirrored."""

    left: int
    top: int
    side: int
    mirrored: bool

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 (h, w, 3) -> the same shape."""
        return np.asarray(self._changed(image, cv2.INTER_CUBIC), np.uint8)

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """bool (h, w) -> the share of each pixel that is covered, (h, w)."""
        return np.asarray(self._changed(mask.astype(np.float32), cv2.INTER_LINEAR), np.float32)

    def _changed(self, values: NDArray[Any], how: int) -> NDArray[Any]:
        height, width = values.shape[:2]
        if self.side < width:
            high = _height(self.side, (width, height))
            window = values[self.top : self.top + high, self.left : self.left + self.side]
            values = np.asarray(cv2.resize(window, (width, height), interpolation=how))
        return values[:, ::-1] if self.mirrored else values

    def people(self, people: People) -> People:
        """The people of that image; joints outside the window are dropped."""
        if self.side < people.canvas[0]:
            high = _height(self.side, people.canvas)
            people = people.crop(self.left, self.top, self.side, high).resize(*people.canvas)
        return people.hflip() if self.mirrored else people


def _height(side: int, canvas: tuple[int, int]) -> int:
    """Of a window of that width in an image of (width, height) px, px."""
    return max(1, round(side * canvas[1] / canvas[0]))


def augmentation(images: ImageCache | BucketedCache, row: int, number: int) -> Variant:
    """The change number `number` of this row; it depends on the two, the size and whether a mirror image is true to
    the captions. In buckets the row is that of its own bucket."""
    image_cache, row = images.local(row)
    width, height = image_cache.canvas(row)
    if number == 0:
        return Variant(0, 0, width, False)
    rng = np.random.default_rng((row, number))
    mirrored = rng.random() < MIRRORED and may_mirror(image_cache.captions[row], image_cache.people[row])
    side = round(width * rng.uniform(SMALLEST, 1))
    left, top = rng.integers(0, [width - side + 1, height - _height(side, (width, height)) + 1])
    return Variant(int(left), int(top), side, bool(mirrored))


def may_mirror(captions: Sequence[str], people: People) -> bool:
    """Whether the captions are as true of the mirror image.

    Not if one speaks of left or right. Nor for several people: Atelier's captions name them from left to right, and
    that order alone says who wears what.
    """
    return people.n < 2 and not any(_SIDES.search(caption) for caption in captions)
