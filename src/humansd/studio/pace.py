"""How fast this server draws, measured while it does."""

from __future__ import annotations

import math
import threading

from humansd.studio.drawing import Recipe

UNKNOWN_S = 0.1  # of an image and step, before anything was drawn
_KEEP = 0.95  # of what was measured, at each step: the last 20 or so count


class Pace:
    """Seconds per image and step, by model, method and area within a factor of two. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[tuple[object, ...], tuple[float, float]] = {}

    def saw(self, recipe: Recipe, image_steps: int, seconds: float) -> None:
        """So many steps, each of one image, took so long. 0 steps: what belongs to those before."""
        with self._lock:
            for kind in (_kind(recipe), ()):
                steps, took = self._seen.get(kind, (0.0, 0.0))
                keep = _KEEP if image_steps else 1.0
                self._seen[kind] = (keep * steps + image_steps, keep * took + seconds)

    def seconds(self, recipe: Recipe) -> float:
        """Of a whole image; as that of other kinds where none of this one was drawn yet."""
        with self._lock:
            steps, took = self._seen.get(_kind(recipe)) or self._seen.get(()) or (0.0, 0.0)
        return recipe.steps_to_draw * (took / steps if steps else UNKNOWN_S)


def _kind(recipe: Recipe) -> tuple[object, ...]:
    return (recipe.model, recipe.method, round(math.log2(max(1, recipe.size[0] * recipe.size[1]))))
