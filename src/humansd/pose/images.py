"""Images beside poses: fitted into a size as `People.fit` fits people, and with people drawn over them."""

from __future__ import annotations

import cv2
import numpy as np

from humansd.core.arrays import ImageArray
from humansd.pose.people import People, fit_box
from humansd.pose.render import HUMANSD_STYLE, DrawStyle, draw_people


def resized(image: ImageArray, size: tuple[int, int]) -> ImageArray:
    """The image (h, w, 3) at `size` = (width, height): by area where it gets smaller, else linearly."""
    smaller = size[0] * size[1] < image.shape[0] * image.shape[1]
    way = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=way), np.uint8)


def letterboxed(image: ImageArray, size: tuple[int, int], beside: int = 0) -> ImageArray:
    """The image (h, w, 3) in the middle of one of `size` = (width, height), as large as fits; `beside` it that grey."""
    width, height, left, top = fit_box((image.shape[1], image.shape[0]), size)
    out = np.full((size[1], size[0], 3), beside, np.uint8)
    out[top : top + height, left : left + width] = resized(image, (width, height))
    return out


def overlay(image: ImageArray, people: People, style: DrawStyle = HUMANSD_STYLE, *, light: float = 1.0) -> ImageArray:
    """`people` drawn over the image (h, w, 3) of their canvas, of which the share `light` is left; uint8 RGB."""
    drawn = draw_people(people, style)
    dimmed = image if light == 1 else (image * light + 1e-6).astype(np.uint8)  # a third of 9 is 3
    return np.where(drawn.any(axis=2, keepdims=True), drawn, dimmed)
