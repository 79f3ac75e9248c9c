"""Images with their people or person masks, changed at random for training small models that see them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from humansd.pose.people import People


@dataclass(frozen=True)
class Augmentation:
    """Ranges and chances of the changes.

    still: chance that nothing is moved. scale: factor. turn_deg: either way. shift: share of the side, either way. The
    rest are chances in 0..1, of: a mirror image, other light, grey, exchanged colour channels, blur, noise, and a
    image made small and large again.
    """

    still: float = 0.2
    scale: tuple[float, float] = (0.65, 1.4)
    turn_deg: float = 25.0
    shift: float = 0.15
    flip: float = 0.5
    light: float = 0.8
    grey: float = 0.1
    swap_channels: float = 0.15
    blur: float = 0.3
    noise: float = 0.4
    coarse: float = 0.25


STRONG = Augmentation()
# For an estimator that sees images of the world it learnt from, as the held-out one does.
MILD = Augmentation(still=0.4, scale=(0.8, 1.25), turn_deg=15.0, shift=0.1)


def augment(
    image: NDArray[np.uint8], people: People, rng: np.random.Generator, how: Augmentation
) -> tuple[NDArray[np.uint8], People]:
    """A changed uint8 RGB image (h, w, 3) of the same size and its people; joints that left it are absent."""
    if rng.random() >= how.still:
        image, people = _moved(image, people, rng, how)
    if rng.random() < how.flip:
        image, people = image[:, ::-1], people.hflip()
    return _repainted(image, rng, how), people


def augment_mask(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], rng: np.random.Generator, how: Augmentation
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The same of an image and its person mask (h, w); what comes in from outside shows nobody."""
    if rng.random() >= how.still:
        move = _Move.random(image.shape, rng, how)
        # A replicated border would show people without a mask.
        image, mask = move.image(image, cv2.BORDER_CONSTANT), move.mask(mask)
    if rng.random() < how.flip:
        image, mask = image[:, ::-1], mask[:, ::-1]
    return _repainted(image, rng, how), np.ascontiguousarray(mask)


def transform_people(people: People, matrix: NDArray[np.float64]) -> People:
    """`people` after the image went through the affine `matrix` (2, 3) in pixel coordinates, on the same canvas;
    joints outside are dropped, areas grow with the determinant. Extras stay as they are."""
    moved = people.xy @ matrix[:, :2].T + matrix[:, 2]
    area = people.area * abs(np.linalg.det(matrix[:, :2]))
    xy = np.where(people.labelled[..., None], moved, people.xy)
    return replace(people, xy=xy, area=area).drop_outside()


@dataclass(frozen=True)
class _Move:
    """matrix: (2, 3), px to px. replicate: whether the border goes on outside. fill: the color there else."""

    matrix: NDArray[np.float64]
    replicate: bool
    fill: tuple[int, ...]

    @classmethod
    def random(cls, shape: tuple[int, ...], rng: np.random.Generator, how: Augmentation) -> _Move:
        """Scaled and turned about the centre, and shifted."""
        height, width = shape[:2]
        scale = float(np.exp(rng.uniform(*np.log(how.scale))))
        turn = np.radians(rng.uniform(-how.turn_deg, how.turn_deg))
        shift = rng.uniform(-how.shift, how.shift, 2) * (width, height)
        cos, sin = scale * np.cos(turn), scale * np.sin(turn)
        linear = np.array([[cos, -sin], [sin, cos]])
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        matrix = np.concatenate([linear, (centre + shift - linear @ centre)[:, None]], axis=1)
        replicate = bool(rng.random() < 0.3)
        return cls(matrix, replicate, tuple(int(v) for v in rng.integers(0, 256, 3)))

    def image(self, image: NDArray[np.uint8], edge: int) -> NDArray[np.uint8]:
        """The image (h, w, 3) as it is then; edge: OpenCV's border mode."""
        size = (image.shape[1], image.shape[0])
        moved = cv2.warpAffine(image, self.matrix, size, flags=cv2.INTER_LINEAR, borderMode=edge, borderValue=self.fill)
        return np.asarray(moved, np.uint8)

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The mask (h, w) as it is then."""
        size = (mask.shape[1], mask.shape[0])
        return np.asarray(cv2.warpAffine(mask.astype(np.uint8), self.matrix, size, flags=cv2.INTER_NEAREST) > 0)


def _moved(
    image: NDArray[np.uint8], people: People, rng: np.random.Generator, how: Augmentation
) -> tuple[NDArray[np.uint8], People]:
    move = _Move.random(image.shape, rng, how)
    # Never a mirrored border, which would show people without key points.
    edge = cv2.BORDER_REPLICATE if move.replicate else cv2.BORDER_CONSTANT
    return move.image(image, edge), transform_people(people, move.matrix)


def _repainted(image: NDArray[np.uint8], rng: np.random.Generator, how: Augmentation) -> NDArray[np.uint8]:
    x: NDArray[Any] = image.astype(np.float32) / 255
    if rng.random() < how.swap_channels:
        x = x[..., rng.permutation(3)]
    if rng.random() < how.light:
        x = x ** np.float32(np.exp(rng.uniform(-0.5, 0.5)))
        x = (x - 0.5) * np.float32(rng.uniform(0.6, 1.3)) + 0.5 + np.float32(rng.uniform(-0.15, 0.15))
        x = x * rng.uniform(0.85, 1.15, 3).astype(np.float32)
    if rng.random() < how.grey:
        x = np.repeat(x.mean(axis=2, keepdims=True), 3, axis=2)
    height, width = x.shape[:2]
    if rng.random() < how.coarse:  # as after a bad resize
        share = rng.uniform(0.4, 0.8)
        small = cv2.resize(x, (max(8, int(width * share)), max(8, int(height * share))), interpolation=cv2.INTER_AREA)
        x = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < how.blur:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.5))
    if rng.random() < how.noise:
        x = x + rng.standard_normal(x.shape, dtype=np.float32) * np.float32(rng.uniform(0.01, 0.08))
    return np.asarray(np.clip(x, 0, 1) * 255 + 0.5, np.uint8)
