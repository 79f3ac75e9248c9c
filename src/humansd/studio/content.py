"""The filter that withholds images which are not safe for work."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from humansd.build.safety import default_checker, load_checker
from humansd.studio.drawing import Model

FILTERS = ("auto", "on", "off")
THRESHOLD = 0.5
MISSING = "no content filter is installed; pip install 'humansd[nsfw]' brings one"
_GREY = (128, 128, 128)


class ContentFilter:
    """Looks at images with one of `build.safety.CHECKERS`. To be used by one thread at a time."""

    def __init__(self, name: str, *, everything: bool) -> None:
        """everything: images of small models, too. Errors as of `load_checker`."""
        self.name, self.everything = name, everything
        self._checker = load_checker(name)

    def covers(self, model: Model) -> bool:
        """Whether the images of this model are looked at."""
        return self.everything or model.about.full_scale

    def withheld(self, images: Sequence[Image.Image]) -> list[bool]:
        """Which of them are not to be shown."""
        scores = self._checker.scores([np.asarray(image.convert("RGB")) for image in images])
        return [score >= THRESHOLD for score in scores]


def content_filter(wish: str) -> ContentFilter | None:
    """auto: the images of full-scale models, where the extra is installed. on: those of every model. off: none.

    Raises:
        ValueError: an unknown wish, or "on" without the extra.
    """
    if wish not in FILTERS:
        raise ValueError(f"content filter {wish!r} is not known; choose one of {', '.join(FILTERS)}")
    name = default_checker()
    if wish == "off" or (wish == "auto" and not name):
        return None
    if not name:
        raise ValueError(f"--content-filter on: {MISSING}")
    return ContentFilter(name, everything=wish == "on")


def blank(image: Image.Image) -> Image.Image:
    """What is shown in the place of a withheld image: plain grey of its size."""
    return Image.new("RGB", image.size, _GREY)
