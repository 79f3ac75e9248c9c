"""People drawn over the images they were found in, and how alike two sets of people are."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from humansd.core.arrays import ImageArray
from humansd.pose.compare import oks
from humansd.pose.people import People, fit_box
from humansd.pose.render import HUMANSD_STYLE, draw_people

THIN = dataclasses.replace(HUMANSD_STYLE, stick_width_px=HUMANSD_STYLE.stick_width_px / 2)


def overlay(image: ImageArray, people: People, side_px: int) -> ImageArray:
    """`people` drawn over the dimmed image, both fitted into a square of `side_px`; uint8 RGB."""
    width, height, left, top = fit_box(people.canvas, (side_px, side_px))
    square = np.zeros((side_px, side_px, 3), np.uint8)
    square[top : top + height, left : left + width] = cv2.resize(image, (width, height))
    drawn = draw_people(people.fit(side_px, side_px), THIN)
    return np.where(drawn.any(axis=2, keepdims=True), drawn, square // 2)


def likeness(wanted: People, found: People) -> float:
    """Mean over the wanted people with joints of the best OKS among the found, 0..1; NaN where nobody was wanted.

    Crowds are left out.
    """
    clear = wanted.select([not extra.get("iscrowd") for extra in wanted.extras]).with_joints()
    if not clear.n:
        return float("nan")
    return float(oks(clear, found).max(axis=1).mean()) if found.n else 0.0
