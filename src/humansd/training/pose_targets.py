"""What a pose estimator has to say of a picture: heatmaps, places of the joints, centres and offsets, as arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from humansd.pose.maps import gaussian_heatmaps
from humansd.pose.people import People

MAX_PEOPLE = 6  # of one picture that a batch holds
Floats = NDArray[np.float32]


def exact_heatmaps(people: People, stride: int, sigma_px: float) -> Floats:
    """(17, h / stride, w / stride) Gaussians about the joints themselves, so that a peak tells fractions of a pixel."""
    width, height = (side // stride for side in people.canvas)
    return gaussian_heatmaps(people.resize(width, height), (width, height), sigma_px)


def peaked_heatmaps(people: People, stride: int, sigma_px: float) -> Floats:
    """The same with every joint moved to the nearest pixel, where the value is exactly 1, as the focal loss needs."""
    width, height = (side // stride for side in people.canvas)
    return gaussian_heatmaps(_on_pixels(people.resize(width, height)), (width, height), sigma_px)


def joint_places(people: People, stride: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Flat positions y * w + x on the maps, (MAX_PEOPLE, 17), and which of them hold a joint."""
    width, height = (side // stride for side in people.canvas)
    small = _on_pixels(people.resize(width, height))
    places = np.zeros((MAX_PEOPLE, 17), np.int64)
    seen = np.zeros((MAX_PEOPLE, 17), bool)
    n = min(people.n, MAX_PEOPLE)
    x, y = (np.clip(small.xy[:n, :, axis], 0, side - 1) for axis, side in ((0, width), (1, height)))
    places[:n] = (y * width + x).astype(np.int64)
    seen[:n] = small.labelled[:n]
    return np.where(seen, places, 0), seen


def centre_targets(people: People, stride: int, sigma_px: float) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Centres (1, h, w), offsets (34, h, w) in quarters of the width, and where the offsets count (34, h, w).

    A person's centre is the middle of the box of its labelled joints; offsets are asked for at the 3 x 3 positions
    about it.
    """
    width, height = (side // stride for side in people.canvas)
    heat = np.zeros((1, height, width), np.float32)
    offset = np.zeros((34, height, width), np.float32)
    asked = np.zeros((34, height, width), bool)
    unit = people.canvas[0] / 4
    people = people.with_joints()
    boxes = people.boxes()
    middles = ((boxes[:, :2] + boxes[:, 2:]) / 2 + 0.5) / stride - 0.5
    cells = np.clip(np.rint(middles), 0, (width - 1, height - 1)).astype(int)
    y, x = np.mgrid[:height, :width]
    for column, row in cells:
        heat[0] = np.maximum(heat[0], np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * sigma_px**2)))
    for reach in (1, 0):  # the centres themselves last, so that no neighbour takes them
        for xy, seen, (column, row) in zip(people.xy, people.labelled, cells, strict=True):
            rows = slice(max(0, row - reach), row + reach + 1)
            columns = slice(max(0, column - reach), column + reach + 1)
            here = (np.stack([x, y])[:, rows, columns] + 0.5) * stride - 0.5  # in pixels of the picture
            away = (xy[:, :, None, None] - here[None]) / unit  # (17, 2, r, c)
            offset[:, rows, columns] = away.reshape(34, *away.shape[2:])
            asked[:, rows, columns] = np.repeat(seen, 2)[:, None, None]
    return heat, offset, asked


def _on_pixels(people: People) -> People:
    """The same people with every joint on the nearest pixel centre."""
    return People(
        np.rint(people.xy), people.score, people.visibility, people.canvas, people.skeleton, people.area, people.extras
    )
