"""What pictures are compared by: feature extractors behind one protocol, and the table of those there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModel, CLIPVisionModel

from humansd.models.estimators import Picture, usable_device
from humansd.models.inception import WIDTH, Inception
from humansd.models.loading import load_part

BATCH = 32
POCKET_CLIP = Path(str(resources.files("humansd"))) / "weights" / "pocket" / "clip"


class FeatureExtractor(Protocol):
    """Turns pictures into vectors."""

    @property
    def name(self) -> str:
        """What the features are called in a table."""

    @property
    def is_fid(self) -> bool:
        """Whether the Frechet distance of these features is what is published as FID."""

    @property
    def width(self) -> int:
        """Numbers of a picture."""

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The networks that run."""

    def extract(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """(n, width) of pictures uint8 RGB (height, width, 3) of any sizes; each depends on its own picture alone."""


class InceptionFeatures:
    """The 2048 numbers before Inception-v3's last layer, with the published weights of FID (Heusel et al. 2017)."""

    name = "inception"
    is_fid = True
    width = WIDTH

    def __init__(self, network: Inception, device: torch.device | str = "cpu") -> None:
        self._network, self._device = network.eval().to(device), torch.device(device)

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """See `FeatureExtractor.networks`."""
        return (self._network,)

    @torch.inference_mode()
    def extract(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """See `FeatureExtractor.extract`."""

        def one(batch: Sequence[Picture]) -> Tensor:
            stack = torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).to(self._device)
            return self._network(stack.float() / 255)

        return _in_batches(pictures, one, self.width)


class VisionFeatures:
    """The pooled features of a vision model of transformers; the mean over its places where it pools nothing.

    Before a CLIP's projection: the projection keeps what captions speak of, and a distance of pictures should see the
    rest too.
    """

    is_fid = False

    def __init__(self, name: str, model: Any, processor: Any, device: torch.device | str = "cpu") -> None:
        self.name = name
        self._model, self._processor, self._device = model.eval().to(device), processor, torch.device(device)
        self.width = self._width()

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """See `FeatureExtractor.networks`."""
        return (self._model,)

    @torch.inference_mode()
    def extract(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """See `FeatureExtractor.extract`."""

        def one(batch: Sequence[Picture]) -> Tensor:
            images = [Image.fromarray(picture) for picture in batch]
            values = self._processor(images=images, return_tensors="pt")["pixel_values"]
            return self._pooled(values.to(self._device))

        return _in_batches(pictures, one, self.width)

    def _pooled(self, values: Tensor) -> Tensor:
        output = self._model(pixel_values=values)
        pooled = getattr(output, "pooler_output", None)
        if pooled is None:
            places = output.last_hidden_state  # (n, places, width), or (n, width, h, w) of a convolutional network
            pooled = places.mean(dim=(2, 3)) if places.ndim == 4 else places.mean(dim=1)
        return pooled.flatten(1)

    @torch.inference_mode()
    def _width(self) -> int:
        grey = Image.fromarray(np.full((64, 64, 3), 128, np.uint8))
        values = self._processor(images=[grey], return_tensors="pt")["pixel_values"]
        return int(self._pooled(values.to(self._device)).shape[1])


def _inception(source: str, device: torch.device) -> FeatureExtractor:
    if not source:
        raise ValueError(
            "features 'inception': FID's weights do not ship; download pytorch-fid's "
            "pt_inception-2015-12-05-6726825d.pth, run `humansd convert inception FILE --out DIR`, give inception=DIR"
        )
    return InceptionFeatures(Inception.from_pretrained(Path(source)), device)


def _pocket(source: str, device: torch.device) -> FeatureExtractor:
    folder = source or str(POCKET_CLIP)
    tower = load_part(CLIPVisionModel, folder)
    return VisionFeatures("pocket image tower", tower, AutoImageProcessor.from_pretrained(folder), device)


def _transformers(source: str, device: torch.device) -> FeatureExtractor:
    if not source:
        raise ValueError("features 'transformers' need a vision model's folder or hub id: transformers=SOURCE")
    model = load_part(AutoModel, source)
    model = getattr(model, "vision_model", model)  # the image half of a CLIP
    return VisionFeatures(Path(source).name, model, AutoImageProcessor.from_pretrained(source), device)


# name -> maker of (source: folder or hub id, "" for what ships with the package; device).
EXTRACTORS: dict[str, Callable[[str, torch.device], FeatureExtractor]] = {
    "pocket": _pocket,  # ships; knows Atelier
    "inception": _inception,  # FID and KID, with the user's weights
    "transformers": _transformers,  # any vision model
}


def load_extractor(name: str, source: str = "", device: torch.device | str = "cpu") -> FeatureExtractor:
    """The extractor `name` with the weights of `source`, a folder or hub id; "" is what ships with the package.

    Raises:
        ValueError: no such extractor or device, or one that ships no weights and was given no source.
        OSError: the source holds no weights in safetensors.
    """
    if name not in EXTRACTORS:
        raise ValueError(f"features {name!r} are not known; choose among {', '.join(EXTRACTORS)}")
    return EXTRACTORS[name](source, usable_device(device))


def _in_batches(
    pictures: Sequence[Picture], one: Callable[[Sequence[Picture]], Tensor], width: int
) -> NDArray[np.float32]:
    """Pictures of one size share a batch."""
    out = np.zeros((len(pictures), width), np.float32)
    for shape in sorted({picture.shape for picture in pictures}):
        rows = [i for i, picture in enumerate(pictures) if picture.shape == shape]
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            out[some] = one([pictures[i] for i in some]).float().cpu().numpy()
    return out
