"""Images of any size as one batch for a network with a square input, and key points back from its maps."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from humansd.core.arrays import Float32s
from humansd.pose.images import letterboxed, resized
from humansd.pose.people import People, fit_box
from humansd.pose.skeleton import COCO17


def letterbox(images: Sequence[NDArray[np.uint8]], side: int) -> torch.Tensor:
    """uint8 RGB (h, w, 3) of any sizes -> float32 (n, 3, side, side) in [-1, 1], mid-grey beside the images.

    Raises:
        ValueError: an image of another type or shape.
    """
    batch = np.empty((len(images), side, side, 3), np.uint8)
    for row, image in zip(batch, images, strict=True):
        check_image(image)
        row[:] = letterboxed(image, (side, side), beside=127)
    return _unit(batch)


def squeeze(images: Sequence[NDArray[np.uint8]], side: int) -> torch.Tensor:
    """As `letterbox`, but with the sides of an image that is no square made equal; for a square it is the same.

    For images of one shape that are compared with each other: bars, which all of them would have, hide differences.
    """
    batch = np.empty((len(images), side, side, 3), np.uint8)
    for row, image in zip(batch, images, strict=True):
        check_image(image)
        height, width = image.shape[:2]
        shrunk = cv2.resize(image, (min(width, side), min(height, side)), interpolation=cv2.INTER_AREA)
        row[:] = cv2.resize(shrunk, (side, side), interpolation=cv2.INTER_LINEAR)
    return _unit(batch)


def framed(image: NDArray[np.uint8], longest: int, multiple: int) -> torch.Tensor:
    """A uint8 RGB image (h, w, 3) with its longer side resized to `longest` px -> float32 (3, H, W) in [-1, 1], black
    at the right and bottom up to multiples of `multiple` px.

    Raises:
        ValueError: an image of another type or shape.
    """
    check_image(image)
    width, height = fit_box((image.shape[1], image.shape[0]), (longest, longest))[:2]
    sides = [-(-side // multiple) * multiple for side in (height, width)]
    frame = np.zeros((1, *sides, 3), np.uint8)
    frame[0, :height, :width] = resized(image, (width, height))
    return _unit(frame)[0]


def check_image(image: NDArray[np.uint8]) -> None:
    """ValueError for anything but a uint8 RGB image (h, w, 3)."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"an image is {image.dtype} {image.shape}; uint8 RGB (height, width, 3) is needed")


def _unit(batch: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(batch).permute(0, 3, 1, 2).float().contiguous() / 127.5 - 1


def people_from_maps(
    xy: Float32s, joint_score: Float32s, person_score: Float32s, stride: float, side: int, canvas: tuple[int, int]
) -> People:
    """People on their image's canvas from places on the maps of its letterboxed image.

    Args:
        xy: (n, 17, 2) in map pixels, integer = pixel centre; joint_score: (n, 17), 0 where a joint was not found;
            person_score: (n,). Scores above 1 count as 1.
        stride: pixels of the letterboxed image per map pixel. side: of that image. canvas: (width, height).
    """
    width, height, left, top = fit_box(canvas, (side, side))
    inside = (xy.astype(np.float64) + 0.5) * stride - 0.5
    places = (inside - (left, top) + 0.5) * (canvas[0] / width, canvas[1] / height) - 0.5
    seen = joint_score > 0
    people = People.of(
        np.where(seen[..., None], places, 0.0).reshape(-1, len(COCO17), 2),
        canvas,
        score=np.clip(joint_score, 0, 1).astype(np.float64),
        visibility=np.where(seen, 2, 0).astype(np.uint8),
        extras=[{"score": value} for value in np.clip(person_score, 0, 1).tolist()],
    )
    return people.drop_outside().with_joints()  # in the border of a letterboxed image nothing can be seen
