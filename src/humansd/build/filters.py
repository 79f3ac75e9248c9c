"""Stages that leave samples out. Each says why, in words by which they are counted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from humansd.build.item import Batch, Item, each, together
from humansd.build.safety import load_checker

# Words by which captions tell of minors. They miss what is not said, and take "a boy band" along.
MINORS = re.compile(
    r"\b(bab(y|ies)|infants?|toddlers?|newborns?|child(ren)?|kids?|kiddos?|boys?|girls?|schoolboys?|schoolgirls?|"
    r"teens?|teenagers?|teenaged?|underage|minors?|preteens?|juveniles?|daughters?|sons?|lolis?|shotas?|pupils?)\b",
    re.IGNORECASE,
)
_ADULT = re.compile(r"\b(cowboys?|cowgirls?|boyfriends?|girlfriends?)\b", re.IGNORECASE)


@dataclass(frozen=True)
class HasCaption:
    """Samples that say what they show."""

    light: ClassVar[bool] = True

    def __call__(self, batch: Batch) -> Batch:
        return each(batch, lambda item: item if item.caption.strip() else item.drop("caption", "none"))


@dataclass(frozen=True)
class Resolution:
    """Images whose shorter side has `shortest` px or more, and whose sides differ by at most the factor `aspect`."""

    shortest: int = 64
    aspect: float = 3.0

    def __call__(self, batch: Batch) -> Batch:
        return each(batch, self._judge)

    def _judge(self, item: Item) -> Item:
        assert item.image is not None
        height, width = item.image.shape[:2]
        if min(width, height) < self.shortest:
            return item.drop("resolution", f"a side below {self.shortest} px", f"{width} x {height}")
        if max(width, height) > self.aspect * min(width, height):
            return item.drop("aspect", f"longer than 1 : {self.aspect:g}", f"{width} x {height}")
        return item


@dataclass(frozen=True)
class Quality:
    """Images that are not blank, and not so blurred that no edge is left: the standard deviation of grey is at least
    `contrast` (of 255), and that of its Laplacian at least `sharpness`."""

    contrast: float = 8.0
    sharpness: float = 2.0

    def __call__(self, batch: Batch) -> Batch:
        return each(batch, self._judge)

    def _judge(self, item: Item) -> Item:
        contrast, sharp = contrast_and_sharpness(item)
        if contrast < self.contrast:
            return item.drop("quality", "all but blank", f"contrast {contrast:.1f}")
        if sharp < self.sharpness:
            return item.drop("quality", "blurred", f"sharpness {sharp:.1f}")
        return item


def contrast_and_sharpness(item: Item) -> tuple[float, float]:
    """Standard deviations of grey (0..255) and of its Laplacian."""
    import cv2

    assert item.image is not None
    grey = cv2.cvtColor(item.image, cv2.COLOR_RGB2GRAY)
    return float(grey.std()), float(cv2.Laplacian(grey, cv2.CV_32F).std())


def person_scores(item: Item) -> np.ndarray:
    """(n,) how sure it is of each person: what the estimator said, else the mean score of the labelled joints."""
    people = item.people
    if people is None or not people.n:
        return np.empty(0)
    known = [extras.get("score") for extras in people.extras]
    labelled = people.labelled
    means = (people.score * labelled).sum(axis=1) / np.maximum(1, labelled.sum(axis=1))
    return np.array([mean if score is None else float(score) for score, mean in zip(known, means)])


@dataclass(frozen=True)
class Confidence:
    """Images whose surest person is surer than `least`. The authors of HumanSD advise 0.02 for LAION-Human."""

    least: float = 0.02

    def __call__(self, batch: Batch) -> Batch:
        return each(batch, self._judge)

    def _judge(self, item: Item) -> Item:
        scores = person_scores(item)
        if len(scores) and scores.max() <= self.least:
            return item.drop("pose confidence", f"{self.least:g} or less", f"{scores.max():.3f}")
        return item


@dataclass(frozen=True)
class PeopleCount:
    """Images with `fewest` .. `most` people, each with at least `joints` labelled joints inside the image; those with
    fewer joints do not count, and stay. most = 0: any number."""

    fewest: int = 1
    most: int = 0
    joints: int = 3

    def __call__(self, batch: Batch) -> Batch:
        return each(batch, self._judge)

    def _judge(self, item: Item) -> Item:
        if item.people is None:
            return item.drop("people", "no pose is known") if self.fewest else item
        n = int((item.people.drop_outside().labelled.sum(axis=1) >= self.joints).sum())
        if n < self.fewest:
            return item.drop("people", "nobody" if n == 0 else f"fewer than {self.fewest}", str(n))
        if self.most and n > self.most:
            return item.drop("people", f"more than {self.most}", str(n))
        return item


@dataclass(frozen=True)
class Minors:
    """Samples whose captions do not speak of minors (`MINORS`)."""

    light: ClassVar[bool] = True

    def __call__(self, batch: Batch) -> Batch:
        return each(batch, self._judge)

    def _judge(self, item: Item) -> Item:
        for text in (item.caption, *map(str, item.extras.get("captions", []))):
            found = MINORS.search(_ADULT.sub("", text))
            if found:
                return item.drop("minors", "the caption speaks of one", found[0])
        return item


@dataclass(frozen=True)
class SafeForWork:
    """Images that a checker (`safety.CHECKERS`) gives less than `threshold`; their score is kept in the extras."""

    checker: str
    threshold: float = 0.5

    def __call__(self, batch: Batch) -> Batch:
        return together(batch, lambda item: True, self._judge)

    def _judge(self, items: Sequence[Item]) -> list[Item]:
        scores = load_checker(self.checker).scores([item.image for item in items])  # type: ignore[misc]
        return [
            item.drop("nsfw", f"{self.threshold:g} or more", f"{score:.2f}")
            if score >= self.threshold
            else item.but(extras={**item.extras, "nsfw": round(score, 4)})
            for item, score in zip(items, scores, strict=True)
        ]
