"""Images and masks that a drawing begins with, before any network sees them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from PIL import Image

from humansd.core.numbers import LEAST_STRENGTH, real
from humansd.pose.maps import person_mask
from humansd.pose.people import People


def repose_mask(before: People, after: People, size: tuple[int, int], margin: float = 0.15) -> np.ndarray:
    """Where people change: uint8 (height, width), 255 around everybody of one pose who is not just so in the other.

    Args:
        before, after: on canvases of one shape. size: (width, height) px of the mask.
        margin: room around them, as a share of the tallest one's height.

    Raises:
        ValueError: nobody changes.
    """
    before, after = before.fit(*size), after.fit(*size)
    changed = [_others(before, after), _others(after, before)]
    if not any(people.labelled.any() for people in changed):
        raise ValueError("nobody stands otherwise in the new pose, so there is nothing to draw; change a joint first")
    mask = np.zeros((size[1], size[0]), np.uint8)
    tallest = 1.0
    for people in changed:
        mask |= np.where(person_mask(people, size) > 0, 255, 0).astype(np.uint8)
        for xy, seen in zip(people.xy, people.labelled, strict=True):
            if seen.any():
                tallest = max(tallest, float(np.ptp(xy[seen][:, 1])))
    reach = max(1, round(margin * tallest))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.dilate(mask, disc), np.uint8)


def _others(people: People, rest: People) -> People:
    """Those of `people` who are not exactly in `rest`."""

    def same(i: int, j: int) -> bool:
        both = people.labelled[i] == rest.labelled[j]
        return bool(
            both.all() and np.allclose(people.xy[i][people.labelled[i]], rest.xy[j][rest.labelled[j]], atol=0.5)
        )

    return people.select([not any(same(i, j) for j in range(rest.n)) for i in range(people.n)])


def covered(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`image` (H, W) or (H, W, 3) resized so that it just covers `size` = (width, height), the middle of it."""
    height, width = image.shape[:2]
    scale = max(size[0] / width, size[1] / height)
    around = (max(size[0], round(width * scale)), max(size[1], round(height * scale)))
    if around != (width, height):
        way = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
        image = np.asarray(Image.fromarray(image).resize(around, way))
    left, top = (around[0] - size[0]) // 2, (around[1] - size[1]) // 2
    return image[top : top + size[1], left : left + size[0]]


def rgb(image: Any) -> np.ndarray:
    """uint8 (H, W, 3). ValueError for anything that is no image."""
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return image
    raise ValueError(f"image is {_what(image)}; pass PIL images or uint8 arrays (height, width, 3) RGB")


def grey(mask: Any) -> np.ndarray:
    """uint8 (H, W). ValueError for anything that is no mask."""
    if isinstance(mask, Image.Image):
        return np.asarray(mask.convert("L"))
    if isinstance(mask, np.ndarray) and mask.ndim == 2 and mask.dtype in (np.uint8, np.bool_):
        return mask.astype(np.uint8) * 255 if mask.dtype == np.bool_ else mask
    raise ValueError(f"mask_image is {_what(mask)}; pass a PIL image, or an array (height, width) of uint8 or bool")


def check_strength(strength: float) -> None:
    """ValueError below one of the most steps, or above 1."""
    real("strength", strength, LEAST_STRENGTH, 1)


def check_mask(image: np.ndarray, mask: np.ndarray) -> None:
    """ValueError unless the mask is of the image's size and has something to draw."""
    if image.shape[:2] != mask.shape[:2]:
        raise ValueError(
            f"the mask is {mask.shape[1]} x {mask.shape[0]} px, its image {image.shape[1]} x {image.shape[0]}; make "
            "it of the image's size"
        )
    if not mask.any():
        raise ValueError("the mask is black everywhere, so there is nothing to draw; make it white where to draw")


def _what(value: Any) -> str:
    return f"an array of {value.dtype} {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
