"""People painted as coloured squares, and an estimator that finds exactly these: known poses in known places."""

from collections.abc import Sequence

import numpy as np
from torch import nn

from humansd.core.arrays import ImageArray
from humansd.pose import People

SIDE = 5  # px of a square
BACKGROUND = 200


def color(person: int, joint: int) -> np.ndarray:
    return np.array([60 + 60 * person, 5 + 14 * joint, 20])


def paint(people: People) -> ImageArray:
    """Grey, with a square of its own colour centred on every labelled joint."""
    width, height = people.canvas
    image = np.full((height, width, 3), BACKGROUND, np.uint8)
    for i, j in np.argwhere(people.labelled):
        x, y = people.xy[i, j].round().astype(int) - SIDE // 2
        image[y : y + SIDE, x : x + SIDE] = color(i, j)
    return image


class BlobEstimator:
    """Finds what `paint` painted, also in a JPEG of high quality; the first person is the surest."""

    name = "blobs"
    networks: tuple[nn.Module, ...] = ()

    def detect(self, images: Sequence[ImageArray]) -> list[People]:
        return [self._one(image) for image in images]

    def _one(self, image: ImageArray) -> People:
        canvas = (image.shape[1], image.shape[0])
        people = []
        for person in range(3):
            near = [np.abs(image.astype(int) - color(person, joint)).max(axis=2) < 7 for joint in range(17)]
            places = [np.argwhere(one)[:, ::-1].mean(axis=0) if one.any() else None for one in near]
            if any(place is not None for place in places):
                people.append(places)
        if not people:
            return People.empty(canvas)
        return People.of(
            [[(0, 0) if place is None else place for place in places] for places in people],
            canvas,
            score=[[0.0 if place is None else 0.75 for place in places] for places in people],
            visibility=[[0 if place is None else 2 for place in places] for places in people],
            extras=[{"score": 0.9 - 0.1 * number} for number in range(len(people))],
        )
