"""Where people stand in real photographs: framings drawn from the committed table, before a camera is set.

`assets/framing.json` holds counts from COCO's annotations (CC BY 4.0), made by `framing_stats`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from humansd.pose.people import People

ASSET = Path(__file__).parent / "assets" / "framing.json"
# How far down a person is seen: to the feet, the knees, the hips, or less.
VIEWS = ("full", "knees", "waist", "chest")
HEIGHTS = (0.0, 0.05, 0.1, 0.16, 0.24, 0.35, 0.5, 0.68, 1.0)  # of the box of the joints, shares of the frame
MIDDLES = (0.0, 0.2, 0.35, 0.45, 0.55, 0.65, 0.8, 1.0)  # its middle, from the top
SPOTS = 10  # bins across the frame
LEAST_HEIGHT = 0.025
LEAST_ALONE = 0.12  # of somebody alone, or the image would be of nobody
# Small people are shown whole (`composing.NEAR`). To make up for it, of the others seen to the feet, the knees and the
# hips these shares are seen one step less.
DEEPER = (0.2, 0.5, 0.4)
DEEPER_FROM = 0.2
# Joint -> share of the hidden ones that an annotator would note, fitted to the table.
HIDDEN_KEPT = np.array([0.2] + [0.1] * 4 + [0.5] * 2 + [0.3] * 4 + [0.6] * 2 + [0.3] * 4)
FULL_SHARE = 1 / 3  # of the images: well-framed whole figures, as the demo shows them


@dataclass(frozen=True)
class Target:
    """The framing that a person should get: view (index into VIEWS), and height, x and y (middle) of the box of the
    joints in view, in shares of the frame."""

    view: int
    height: float
    x: float
    y: float


@lru_cache(maxsize=1)
def table() -> dict[str, Any]:
    """The committed table."""
    made: dict[str, Any] = json.loads(ASSET.read_text())
    return made


def annotated(people: People, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The visibility (n, 17) that COCO's annotators would have noted for people whose joints are all known.

    They leave most hidden joints out: each is kept with the probability that makes hidden joints as frequent among
    labelled ones as they are in COCO. Visible joints stay, so nobody who has one is left without any.
    """
    keep = rng.random((people.n, 17)) < HIDDEN_KEPT
    return np.asarray(np.where((people.visibility == 1) & ~keep, 0, people.visibility), np.uint8)


def crowd_class(count: int) -> str:
    """Name of the class of a number of people."""
    return "one" if count == 1 else "few" if count < 4 else "many"


def size_class(height: float) -> str:
    """Name of the class of the largest person's height (share of the frame)."""
    return "small" if height < 0.24 else "middle" if height < 0.5 else "large"


def _pick(rng: np.random.Generator, counts: Sequence[int]) -> int:
    shares = np.cumsum(counts)
    return int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))


def _between(rng: np.random.Generator, edges: Sequence[float], number: int) -> float:
    return float(rng.uniform(edges[number], edges[number + 1]))


def _target(rng: np.random.Generator, group: str) -> Target:
    cells = table()["frames"][group]
    view, tall, middle = (int(k) for k in list(cells)[_pick(rng, list(cells.values()))].split())
    x = (_pick(rng, table()["across"][group]) + float(rng.random())) / SPOTS
    height = max(_between(rng, HEIGHTS, tall), LEAST_HEIGHT)
    if height > DEEPER_FROM and view < 3 and rng.random() < DEEPER[view]:
        view += 1
    return Target(view, height, x, _between(rng, MIDDLES, middle))


def sample_targets(rng: np.random.Generator) -> list[Target]:
    """The framing of everyone in an image (1 to 8 people), the largest person first."""
    count = _pick(rng, table()["real"]["people_per_image"])
    largest = _target(rng, crowd_class(count))
    if count == 1:
        largest = replace(largest, height=max(largest.height, LEAST_ALONE))
    group = f"{crowd_class(count)} {size_class(largest.height)}"
    out = [largest]
    for _ in range(count - 1):
        other = _target(rng, group)
        for _ in range(4):
            if other.height <= largest.height * 1.1:
                break
            other = _target(rng, group)
        out.append(other)
    return out
