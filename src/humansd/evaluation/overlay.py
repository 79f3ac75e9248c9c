"""People drawn over the images they were found in, and how alike two sets of people are."""

from __future__ import annotations

import dataclasses

from humansd.core.arrays import ImageArray
from humansd.pose.compare import oks
from humansd.pose.images import letterboxed
from humansd.pose.images import overlay as over
from humansd.pose.people import People
from humansd.pose.render import HUMANSD_STYLE

THIN = dataclasses.replace(HUMANSD_STYLE, stick_width_px=HUMANSD_STYLE.stick_width_px / 2)


def overlay(image: ImageArray, people: People, side_px: int) -> ImageArray:
    """`people` drawn over the dimmed image, both fitted into a square of `side_px`; uint8 RGB."""
    square = letterboxed(image, (side_px, side_px))
    return over(square, people.fit(side_px, side_px), THIN, light=1 / 2)


def likeness(wanted: People, found: People) -> float:
    """Mean over the wanted people with joints of the best OKS among the found, 0..1; NaN where nobody was wanted.

    Crowds are left out.
    """
    clear = wanted.select([not extra.get("iscrowd") for extra in wanted.extras]).with_joints()
    if not clear.n:
        return float("nan")
    return float(oks(clear, found).max(axis=1).mean()) if found.n else 0.0
