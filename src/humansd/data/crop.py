"""Images of another shape than the model's, cut to it together with their people: never stretched, never padded.

Bars beside an image would be seen by every metric that looks at it, and by the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from humansd.data.sample import Sample
from humansd.pose.people import People, fit_box

MEASURED_WAYS = ("whole", "window", "centre")  # of an evaluation
WAYS = (*MEASURED_WAYS, "most")


@dataclass(frozen=True)
class Window:
    """A window of an image in px, and the way it was chosen.

    way: "whole": the image has the wanted shape; "window": the largest window of that shape, where it holds everyone;
    "centre": no such window holds everyone, so the one in the middle, as the published resize and centre crop has it;
    "most": neither, and it is the one that holds the most joints.
    """

    left: int
    top: int
    width: int
    height: int
    way: str

    def image(self, image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
        """The window of an image, uint8 RGB (h, w, 3), at `size` (width, height) px; shrinking averages areas."""
        cut = image[self.top : self.top + self.height, self.left : self.left + self.width]
        if size == (self.width, self.height):
            return cut.copy()  # and not a view, which would keep the whole image
        how = Image.Resampling.BOX if size[0] < self.width else Image.Resampling.BICUBIC
        return np.asarray(Image.fromarray(np.ascontiguousarray(cut)).resize(size, how))

    def people(self, people: People, size: tuple[int, int]) -> People:
        """The people of that image on the canvas `size` (width, height) px; joints outside the window are dropped."""
        return people.crop(self.left, self.top, self.width, self.height).resize(*size)


def window_for(people: People, size: tuple[int, int]) -> Window:
    """The largest window of the shape of `size` (width, height) in the image of `people`, whose canvas is its size.

    Among the windows that hold every labelled joint inside the image, the one nearest to the middle; where none holds
    them, the one in the middle. So an image is cut alike for all models of one shape, nothing but the people decides,
    and where they do not ask for another, the cut is that of any other evaluation.
    """
    canvas = people.canvas
    width, height, left, top = fit_box(size, canvas)  # in the middle
    if (width, height) == canvas:
        return Window(0, 0, width, height, "whole")
    inside = people.drop_outside()
    joints = inside.xy[inside.labelled]
    if not len(joints):
        return Window(left, top, width, height, "window")
    low, high = joints.min(axis=0), joints.max(axis=0)
    x = _start(low[0], high[0], width, canvas[0], left)
    y = _start(low[1], high[1], height, canvas[1], top)
    if x is None or y is None:
        return Window(left, top, width, height, "centre")
    return Window(x, y, width, height, "window")


def people_window(people: People, size: tuple[int, int]) -> Window:
    """As `window_for`, but where no window holds everyone, the one that holds the most joints: for training, where no
    comparison with other models asks for the middle."""
    window = window_for(people, size)
    if window.way != "centre":
        return window
    inside = people.drop_outside()
    joints = inside.xy[inside.labelled]
    left = _fullest(joints[:, 0], window.width, people.canvas[0], window.left)
    top = _fullest(joints[:, 1], window.height, people.canvas[1], window.top)
    return Window(left, top, window.width, window.height, "most")


def cut_sample(sample: Sample, size: tuple[int, int]) -> Sample:
    """The sample at `size` (width, height) px: image, people and mask cut to one window (`people_window`), then
    resized. People of whom no joint is left are dropped; the mask keeps its numbers."""
    window = people_window(sample.people, size)
    people = window.people(sample.people, size)
    kept = np.flatnonzero(people.labelled.any(axis=1))
    extras = dict(sample.extras)
    if extras.get("mask") is not None:
        mask = extras["mask"][window.top : window.top + window.height, window.left : window.left + window.width]
        number = np.zeros(256, np.uint8)  # those of the people who stay, in their new order
        number[kept + 1] = np.arange(1, len(kept) + 1)
        extras["mask"] = np.asarray(Image.fromarray(number[mask]).resize(size, Image.Resampling.NEAREST))
    return replace(sample, image=window.image(sample.image, size), people=people.select(kept), extras=extras)


def _fullest(values: NDArray[np.float64], side: int, total: int, middle: int) -> int:
    """The first pixel of the stretch of `side` px in `total` that holds the most values; of several the one nearest to
    the middle."""
    edges = np.concatenate([np.floor(values), np.ceil(values) - side + 1, [middle]])
    starts = np.unique(np.clip(edges, 0, total - side)).astype(int)
    held = ((values >= starts[:, None] - 0.5) & (values <= starts[:, None] + side - 0.5)).sum(axis=1)
    best = starts[held == held.max()]
    return int(best[np.abs(best - middle).argmin()])


def _start(low: float, high: float, side: int, total: int, middle: int) -> int | None:
    """The first pixel of the stretch of `side` px in `total` nearest to `middle` that holds low..high; None: none."""
    first, last = max(0, math.ceil(high - side + 0.5)), min(total - side, math.floor(low + 0.5))
    return min(max(middle, first), last) if first <= last else None
