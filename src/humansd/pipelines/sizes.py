"""Which sizes a model draws, as anyone can ask who has not loaded it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from humansd.core.numbers import whole

MOST_PX = 8192  # of a side
_SAME_SHAPE = 0.02  # relative difference of aspect ratios that a crop of the borders may hide


class Sized(Protocol):
    """What draws images: (width, height) px unless told otherwise; widths and heights are multiples of the step."""

    @property
    def default_size(self) -> tuple[int, int]: ...
    @property
    def size_step(self) -> int: ...


@dataclass(frozen=True)
class Sizes:
    """`Sized`, as numbers."""

    default_size: tuple[int, int]
    size_step: int


def stored_sizes(folder: Path) -> Sizes | None:
    """What a diffusers folder says of its sizes; None where it does not, in the usual way."""
    try:
        vae, unet = (json.loads((folder / part / "config.json").read_text()) for part in ("vae", "unet"))
        step = 2 ** (len(vae["block_out_channels"]) - 1)
        side = unet["sample_size"]
        height, width = (side, side) if isinstance(side, int) else side
        return Sizes((int(width) * step, int(height) * step), step)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_size(model: Sized, width: int | None, height: int | None) -> tuple[int, int]:
    """The output's (width, height) in px, the model's own where None. ValueError where the VAE cannot make it."""
    default, factor = model.default_size, model.size_step
    size = (default[0] if width is None else width, default[1] if height is None else height)
    for name, given in zip(("width", "height"), size, strict=True):
        value = whole(name, given, -MOST_PX, MOST_PX)
        if value < factor or value % factor:
            near = max(1, round(value / factor)) * factor
            raise ValueError(f"{name} is {value} px; it must be a multiple of {factor}, for example {near}")
    return size


def output_size(model: Sized, image: np.ndarray, width: int | None, height: int | None) -> tuple[int, int]:
    """(width, height) px: as asked, else the image's shape with the model's shorter side.

    Raises:
        ValueError: not what the VAE can make, or another shape than the image's.
    """
    factor = model.size_step
    scale = min(model.default_size) / min(image.shape[:2])
    natural = [max(1, round(side * scale / factor)) * factor for side in (image.shape[1], image.shape[0])]
    if width is None and height is None:
        return natural[0], natural[1]
    size = check_size(model, width or natural[0], height or natural[1])
    if abs(size[0] * image.shape[0] / (size[1] * image.shape[1]) - 1) > _SAME_SHAPE + factor / min(size):
        raise ValueError(
            f"the image is {image.shape[1]} x {image.shape[0]} px and {size[0]} x {size[1]} are asked for: another "
            "shape; crop the image first, or leave width and height out"
        )
    return size
