"""The stages that ask a model: who is in the image, and what it shows."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from humansd.build.captioners import load_captioner
from humansd.build.item import Batch, Item, together
from humansd.models.estimators import PoseEstimator, load_estimator


@functools.cache
def estimator_of(name: str, source: str, device: str) -> PoseEstimator:
    return load_estimator(name, source, device)


@dataclass(frozen=True)
class Detect:
    """The people of images of which the source says nothing (`all_images`: of every image), by an estimator."""

    estimator: str
    weights: str = ""
    device: str = "cpu"
    all_images: bool = False

    def __call__(self, batch: Batch) -> Batch:
        return together(batch, lambda item: self.all_images or item.people is None, self._detect)

    def _detect(self, items: Sequence[Item]) -> list[Item]:
        found = estimator_of(self.estimator, self.weights, self.device).detect([i.image for i in items])  # type: ignore[misc]
        return [
            item.but(people=people, extras={**item.extras, "poses": self.estimator})
            for item, people in zip(items, found, strict=True)
        ]


@dataclass(frozen=True)
class Caption:
    """Captions for images without one, by a captioner (`captioners.CAPTIONERS`)."""

    captioner: str
    weights: str = ""
    device: str = "cpu"

    def __call__(self, batch: Batch) -> Batch:
        return together(batch, lambda item: not item.caption.strip(), self._caption)

    def _caption(self, items: Sequence[Item]) -> list[Item]:
        texts = load_captioner(self.captioner, self.weights, self.device).caption([i.image for i in items])  # type: ignore[misc]
        return [
            item.but(caption=text, extras={**item.extras, "captions_by": self.captioner}) if text.strip() else item
            for item, text in zip(items, texts, strict=True)
        ]
