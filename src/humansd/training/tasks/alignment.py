"""A middle layer of the UNet told what it should know: which part of the body is where.

In the way of REPA (Yu et al. 2025, "Representation Alignment for Generation", Eq. 8), where a layer is aligned with the
features of another network. Atelier has a teacher that nobody else has: the renderer knows the part of the body that
each pixel shows. A 1 x 1 convolution reads it from the layer, and is dropped when the model is written.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn

from humansd.core.lock import locked
from humansd.data.image_cache import ImageCache
from humansd.synthetic.parts import PARTS, rendered_parts

FILE = "parts.npy"  # in the folder of an image cache
CELL = 8  # px of the image that one of its cells stands for


class Alignment:
    """Reads the first upward block of `unet`, the layer after the middle, whenever it runs, and measures how well a
    1 x 1 convolution, `head`, tells the parts of the body from it."""

    def __init__(self, unet: UNet2DConditionModel, image_cache: ImageCache) -> None:
        self.parts = find_parts(image_cache)
        width = unet.config.block_out_channels[-1]
        self.head = nn.Conv2d(width, len(PARTS), 1)
        nn.init.zeros_(self.head.weight)
        self._seen: Tensor | None = None
        unet.up_blocks[0].register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _given: object, out: Tensor) -> None:
        self._seen = out

    def load(self, rows: list[int]) -> Tensor:
        """The parts of these images, (n, side, side) uint8."""
        return torch.from_numpy(np.stack([self.parts[row] for row in rows]))

    def loss(self, parts: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of what is read from the layer's last run, and the share of the places with somebody whose
        part is told rightly. parts: (n, side, side) of `load`, on any device."""
        seen, self._seen = self._seen, None
        if seen is None:
            raise RuntimeError("the UNet has not run since the last loss")
        known = F.one_hot(parts.to(seen.device).long(), len(PARTS)).permute(0, 3, 1, 2).float()
        shares = F.adaptive_avg_pool2d(known, (seen.shape[2], seen.shape[3]))
        told = self.head(seen).float()
        error = -(shares * F.log_softmax(told, dim=1)).sum(dim=1).mean()
        body = shares.argmax(dim=1) > 0
        right = (told.argmax(dim=1) == shares.argmax(dim=1))[body].float()
        share = right.mean().item() if len(right) else 0.0
        return error, {"parts": error.item(), "parts_right": share}


def find_parts(image_cache: ImageCache) -> NDArray[np.uint8]:
    """The parts of every image of a cache, (n, side / 8, side / 8), memory-mapped; rendered beside it the first time,
    as long as the rendering of the images took without their painting.

    Raises:
        ValueError: the shards that the cache was made of are not beside it, or are not Atelier's.
    """
    path = image_cache.folder / FILE
    if not path.exists():
        with locked(image_cache.folder, "body parts", wait=True):
            if not path.exists():
                _write(image_cache, path)
    found: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    if len(found) != len(image_cache):
        raise ValueError(f"{path}: of {len(found)} images, the image cache has {len(image_cache)}; delete it")
    return found


def _write(image_cache: ImageCache, path: Path) -> None:
    shards = _shards(image_cache.folder)
    side = image_cache.size // CELL
    found = np.zeros((len(image_cache), side, side), np.uint8)
    count = 0
    for captions, parts in rendered_parts(shards, side):
        if count >= len(image_cache) or captions != image_cache.captions[count]:
            raise ValueError(f"{shards}: not the shards that {image_cache.folder} was made of; make both again")
        found[count] = parts
        count += 1
    if count < len(image_cache):
        raise ValueError(f"{shards}: {count} samples, the image cache has {len(image_cache)}; make both again")
    partial = path.with_name(f"{FILE}.partial")
    with partial.open("wb") as file:
        np.save(file, found)
    partial.replace(path)


def _shards(folder: Path) -> Path:
    """Where the shards of an image cache lie: around it, or beside it."""
    for place in (folder.parent, folder.parent / "shards"):
        if any(place.glob("*.tar")):
            return place
    raise ValueError(
        f"{folder}: its shards are not beside it, and body parts are rendered anew from their keys; name the folder of "
        "the shards with --set data=FOLDER, or use align_weight=0"
    )
