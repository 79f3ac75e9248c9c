"""The images that a UNet learns from, in the shapes that it takes, and which of them comes when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import AutoencoderKL, UNet2DConditionModel

from humansd.data.buckets import BucketedCache, find_buckets
from humansd.data.image_cache import ImageCache, find_image_cache
from humansd.models.codec import vae_scale_factor
from humansd.models.loading import from_hub
from humansd.models.pocket import pocket_unet
from humansd.training.randomness import data_row
from humansd.training.tasks.diffusion_networks import model_size
from humansd.training.tasks.diffusion_settings import TAUGHT, DiffusionSettings, LatentSettings

Images = ImageCache | BucketedCache


def find_images(settings: LatentSettings, vae: AutoencoderKL) -> Images:
    """The images of `settings.data`: of one square shape, or in buckets where `settings.aspect_buckets` asks for them.

    Raises:
        ValueError: an estimator is to look at them and they are not square; and as of `find_image_cache` and
            `find_buckets`.
    """
    side = model_size(settings, vae)
    if not (isinstance(settings, DiffusionSettings) and settings.aspect_buckets):
        return find_image_cache(Path(settings.data), settings.image_size, side)
    if settings.loss in TAUGHT:
        raise ValueError(
            f"aspect_buckets = {settings.aspect_buckets:g}: the estimator of loss = {settings.loss!r} sees squares; "
            "use loss=latent-heatmap or loss=skeleton-mask, or aspect_buckets=0"
        )
    step = vae_scale_factor(vae) * 2 ** (len(_unet_config(settings)["block_out_channels"]) - 1)
    return find_buckets(Path(settings.data), settings.image_size or side, settings.aspect_buckets, step)


def _unet_config(settings: LatentSettings) -> Mapping[str, Any]:
    if settings.base_model:
        return dict(from_hub(UNet2DConditionModel.load_config, settings.base_model, subfolder="unet"))
    return dict(pocket_unet().config)


def image_row(seed: int, index: int, counts: Sequence[int], batch_size: int) -> int:
    """The row of the images that global sample `index` uses, where there are `counts` of each shape, one after the
    other.

    All samples of a batch, indices batch_size * k and so on, are of one shape, so that the order does not depend on how
    many processes share a batch. A shape comes up in proportion to its images, its batches spread evenly, and goes
    through its images in a fresh order each time round, so that each image comes up equally often.
    """
    if len(counts) == 1:
        return data_row(seed, index, counts[0])
    turns, earlier = _turns(tuple(counts))
    batch, place = divmod(index, batch_size)
    lap, turn = divmod(batch, len(turns))
    shape = int(turns[turn])
    before = lap * counts[shape] + int(earlier[turn])  # batches of this shape
    return sum(counts[:shape]) + data_row(seed, before * batch_size + place, counts[shape])


@lru_cache(maxsize=4)
def _turns(counts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The shape of each of sum(counts) batches, after which all begins anew, and how many of it came before."""
    numbers = np.concatenate([np.arange(count) for count in counts])
    shapes = np.repeat(np.arange(len(counts)), counts)
    order = np.argsort((numbers + 0.5) / np.array(counts)[shapes], kind="stable")
    return shapes[order], numbers[order]
