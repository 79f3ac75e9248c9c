"""Poses as JSON on their way in and out."""

from __future__ import annotations

import json
from typing import Any

from humansd.pose.errors import PoseError
from humansd.pose.people import People
from humansd.pose.skeleton import SKELETONS


def dump(value: Any) -> bytes:
    """JSON bytes of what a client sent as JSON; PoseError for what the reader would not take."""
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (ValueError, RecursionError):
        problem = "holds a number that is not finite, or is too deep"
        raise PoseError(problem, remedy="Send the JSON of a pose file.") from None


def skeletons() -> dict[str, Any]:
    """The tables that a page needs to draw and edit poses."""
    return {
        one.name: {
            "joints": list(one.joints),
            "limbs": [list(limb) for limb in one.limbs],
            "colors": [list(color) for color in one.limb_colors],
            "flip": list(one.flip_order),
        }
        for one in SKELETONS.values()
    }


def summary(people: People) -> dict[str, Any]:
    """What a list of poses says of each."""
    return {"people": people.n, "canvas": list(people.canvas), "joints": int(people.labelled.sum())}
