"""The latent cache: images, drawn skeletons and captions of a pack, encoded once.

`pictures.npy`, `skeletons.npy`: (n, c, h, w) fp16, scaled. `captions.npy`: (n, tokens, width) fp16.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from transformers import CLIPTextModel, CLIPTokenizer

from humansd.core.workers import one_opencv_thread, spare_loaders
from humansd.data.augmentations import augmentation
from humansd.data.buckets import BucketedCache, StackedRows
from humansd.data.image_cache import ImageCache, to_unit
from humansd.data.rows import Rows, build_rows
from humansd.models.codec import encode_images, encode_text, vae_scale_factor
from humansd.models.precision import fast_bf16
from humansd.pose.render import DrawStyle, draw_people

IMAGES_AT_ONCE, IMAGES_AT_ONCE_GPU = 32, 256  # of 128 px
CAPTIONS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class LatentCache:
    """Memory-mapped latents of an image cache, row for row."""

    images: np.ndarray | StackedRows
    skeletons: np.ndarray | StackedRows


@dataclass(frozen=True, eq=False)
class TextCache:
    """Memory-mapped text embeddings, and where each caption's are."""

    embeddings: np.ndarray
    rows: dict[str, int]

    def of(self, captions: Sequence[str]) -> torch.Tensor:
        """(n, tokens, width) fp32; KeyError for a caption that was not encoded."""
        return torch.from_numpy(self.embeddings[[self.rows[caption] for caption in captions]].astype(np.float32))


def images_at_once(size_px: int, device: str = "cpu") -> int:
    """How many images of this side are encoded at once: larger ones take no more memory."""
    return max(1, (IMAGES_AT_ONCE_GPU if device == "cuda" else IMAGES_AT_ONCE) * 128**2 // size_px**2)


def build_all_latents(
    images: ImageCache | BucketedCache, vae: AutoencoderKL, style: DrawStyle, number: int = 0
) -> LatentCache:
    """`build_latents` beside the images; in buckets, of each."""
    if isinstance(images, ImageCache):
        return build_latents(images, vae, style, images.folder, number)
    each = [build_latents(bucket, vae, style, bucket.folder, number) for bucket in images.buckets]
    parts = [one.images for one in each], [one.skeletons for one in each]
    return LatentCache(*(StackedRows(arrays) for arrays in parts))


def build_latents(
    image_cache: ImageCache, vae: AutoencoderKL, style: DrawStyle, out: Path, number: int = 0
) -> LatentCache:
    """Encodes what is missing of variant `number` of `pack` into a folder of its own below `out` and opens the cache.

    What decides the latents decides the folder: VAE, drawing style, pack, variant, arithmetic. Latents are computed in
    bf16 where that is fast, which changes them by about 0.5 % of their spread.
    """
    factor = vae_scale_factor(vae)
    width, height = image_cache.canvas(0)
    shape = (len(image_cache), vae.config.latent_channels, height // factor, width // factor)
    about = {
        "vae": _digest(vae),
        "scaling_factor": vae.config.scaling_factor,
        "style": style.to_dict(),
        "pack": [len(image_cache), width] if width == height else [len(image_cache), width, height],
        "arithmetic": "bf16" if fast_bf16(vae.device) else "fp32",
        **({"variant": number} if number else {}),
    }
    vae.eval()
    device = vae.device.type
    at_once = images_at_once(math.isqrt(width * height), device)
    drawn = _Drawn(image_cache, style, number, at_once, spare_loaders(device))

    def compute(rows: slice) -> Rows:
        images, skeletons = drawn.take(rows)
        return {"pictures": _encode(vae, images), "skeletons": _encode(vae, skeletons)}

    rows = build_rows(out, "latents", about, {"pictures": shape, "skeletons": shape}, compute, at_once)
    return LatentCache(rows["pictures"], rows["skeletons"])


class _Drawn:
    """Images and drawn skeletons of a variant of a pack's rows, uint8 (n, h, w, 3) each, made ahead on `workers`
    forked processes (0: when they are asked for)."""

    def __init__(self, image_cache: ImageCache, style: DrawStyle, number: int, at_once: int, workers: int) -> None:
        self._image_cache, self._style, self._number = image_cache, style, number
        self._at_once, self._workers = at_once, workers
        self._ahead: Iterator[tuple[torch.Tensor, torch.Tensor]] | None = None

    def take(self, rows: slice) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Of these rows, the first at all or those that follow the last."""
        if not self._workers:
            return self.draw(rows)
        if self._ahead is None:
            starts = range(rows.start, len(self._image_cache), self._at_once)
            chunks = [slice(start, min(start + self._at_once, len(self._image_cache))) for start in starts]
            loader: DataLoader[Any] = DataLoader(
                chunks,  # type: ignore[arg-type]  # what has a length and items
                batch_size=None,
                collate_fn=self._tensors,  # type: ignore[arg-type]  # of one chunk
                num_workers=self._workers,
                multiprocessing_context="fork",
            )
            with one_opencv_thread():
                self._ahead = iter(loader)
        images, skeletons = next(self._ahead)
        return images.numpy(), skeletons.numpy()

    def _tensors(self, rows: slice) -> tuple[torch.Tensor, ...]:
        """Which go to another process without a copy."""
        return tuple(map(torch.from_numpy, self.draw(rows)))

    def draw(self, rows: slice) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Of these rows, here and now."""
        changes = [(row, augmentation(self._image_cache, row, self._number)) for row in range(rows.start, rows.stop)]
        images = np.stack([change.image(self._image_cache.images[row]) for row, change in changes])
        drawn = np.stack(
            [draw_people(change.people(self._image_cache.people[row]), self._style) for row, change in changes]
        )
        return images, drawn


def build_texts(captions: Sequence[str], tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, out: Path) -> TextCache:
    """Encodes what is missing of the captions, each once, into a folder of its own below `out` and opens the cache.

    Takes tokens x width x 2 bytes a caption: 24 kB for the pocket model, 118 kB for Stable Diffusion 1.5.
    """
    unique = sorted(set(captions))
    tokens = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)
    words = hashlib.sha256("\n".join(unique).encode()).hexdigest()
    about = {"text_encoder": _digest(text_encoder), "captions": words, "tokens": tokens}
    text_encoder.eval()

    @torch.no_grad()
    def compute(rows: slice) -> Rows:
        return {"captions": encode_text(tokenizer, text_encoder, unique[rows]).float().cpu().numpy()}

    shape = (len(unique), tokens, text_encoder.config.hidden_size)
    rows = build_rows(out, "captions", about, {"captions": shape}, compute, CAPTIONS_AT_ONCE)
    return TextCache(rows["captions"], {caption: row for row, caption in enumerate(unique)})


@torch.no_grad()
def _encode(vae: AutoencoderKL, images: np.ndarray) -> np.ndarray:
    unit = to_unit(images).to(vae.device, memory_format=torch.channels_last)
    with torch.autocast(vae.device.type, torch.bfloat16, enabled=fast_bf16(vae.device)):
        latents = encode_images(vae, unit)
    return latents.float().cpu().numpy().astype(np.float16)


def _digest(part: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(part.state_dict().items()):
        digest.update(name.encode() + tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()
