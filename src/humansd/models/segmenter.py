"""Where people are in an image, by a SegFormer (Xie et al. 2021): the pocket one, or any that knows a label for them.

The network is transformers' own, so that published weights run: those for ADE20K, Cityscapes or COCO have the label.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation
from transformers.image_processing_base import ImageProcessingMixin

from humansd.core.files import write_json
from humansd.models.loading import from_hub, load_part

PEOPLE = frozenset({"person", "people", "human", "pedestrian", "rider"})  # words of a label
TWO_LABELS: dict[str, Any] = {
    "id2label": {0: "background", 1: "person"},
    "label2id": {"background": 0, "person": 1},
}
POCKET_PX = 128
POCKET: dict[str, Any] = {
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [16, 32, 64, 96],
    "num_attention_heads": [1, 2, 4, 4],
    "decoder_hidden_size": 64,
    "drop_path_rate": 0.0,
    "classifier_dropout_prob": 0.0,
    "initializer_range": 0.1,  # so few channels learn slowly from transformers' 0.02
    **TWO_LABELS,
}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in 0..1, as SegFormer's published weights expect them
_PREPROCESSOR = "preprocessor_config.json"


def person_labels(id2label: Mapping[Any, str], source: str) -> list[int]:
    """The numbers of the labels that are people.

    Raises:
        ValueError: there is none, or no other; the message names the labels, `source` and the remedy.
    """
    words = {int(number): set(re.split(r"[^a-z]+", text.lower())) for number, text in id2label.items()}
    found = [number for number, some in words.items() if some & PEOPLE]
    if not found or len(found) == len(words):
        told = ", ".join(list(id2label.values())[:4]) + (", ..." if len(id2label) > 4 else "")
        what = "none of its labels is a person" if not found else "all of its labels are people"
        raise ValueError(
            f"{source}: {what} ({told}); name a SegFormer that tells people from the rest, such as one for ADE20K, "
            "Cityscapes or COCO, or make one with `humansd train pocket-segmenter`"
        )
    return found


class Segmenter(nn.Module):
    """Images (n, 3, h, w) -> where people are. Differentiable up to the image."""

    def __init__(
        self,
        network: SegformerForSemanticSegmentation,
        mean: tuple[float, ...] = MEAN,
        std: tuple[float, ...] = STD,
        input_px: int = 0,
        source: str = "this SegFormer",
    ) -> None:
        """mean, std: of RGB in 0..1. input_px: side of the images it learnt from; 0: unknown. ValueError: as of
        `person_labels`."""
        super().__init__()
        self.network, self.mean, self.std, self.input_px = network, mean, std, input_px
        self.people = person_labels(network.config.id2label, source)
        self.others = [number for number in range(network.config.num_labels) if number not in self.people]

    @property
    def stride(self) -> int:
        """px of the image to a pixel of the mask."""
        return int(self.network.config.strides[0])

    def forward(self, images: Tensor) -> Tensor:
        """The log-odds (n, h/4, w/4) that a pixel shows a person, of RGB images in [-1, 1]."""
        mean, std = (images.new_tensor(value).view(1, 3, 1, 1) for value in (self.mean, self.std))
        logits = self.network(pixel_values=((images + 1) / 2 - mean) / std).logits.float()
        people, others = (logits[:, numbers].logsumexp(dim=1) for numbers in (self.people, self.others))
        return people - others

    def masks(self, images: Tensor) -> Tensor:
        """How likely a pixel shows a person, (n, h/4, w/4) in 0..1; images as of `forward`."""
        return torch.sigmoid(self(images))

    def save_pretrained(self, folder: Path) -> None:
        """Writes a transformers folder, with the preprocessor's config."""
        self.network.save_pretrained(folder, safe_serialization=True)
        size = {"height": self.input_px, "width": self.input_px}
        told = {"image_processor_type": "SegformerImageProcessor", "do_normalize": True, "do_rescale": True}
        told |= {"image_mean": list(self.mean), "image_std": list(self.std)}
        write_json(folder / _PREPROCESSOR, told | ({"do_resize": True, "size": size} if self.input_px else {}))

    @classmethod
    def from_pretrained(cls, source: str) -> Segmenter:
        """The SegFormer of a folder or hub id, in fp32 and for use.

        Raises:
            OSError: it is not there. ValueError: other weights, or none of its labels is a person.
        """
        network = load_part(SegformerForSemanticSegmentation, source, "").eval()
        try:
            known = from_hub(ImageProcessingMixin.get_image_processor_dict, source)[0]
        except OSError:  # a folder of the network alone
            known = {}
        return cls(network, *preprocessing(known), source=source)


def pocket_segmenter() -> Segmenter:
    """An untrained one of the pocket size, for images of 128 px."""
    return untrained_segmenter(SegformerConfig(**POCKET), POCKET_PX)


def untrained_segmenter(config: SegformerConfig, input_px: int = 0) -> Segmenter:
    """One with random weights; on the meta device nothing is allocated."""
    return Segmenter(SegformerForSemanticSegmentation(config), input_px=input_px)


def segmenter_config(values: Mapping[str, Any], source: str) -> SegformerConfig:
    """transformers' config of a folder's config.json. ValueError: it is of no SegFormer, or as of `person_labels`."""
    if values.get("model_type") != "segformer":
        raise ValueError(
            f"{source}: is of the kind {values.get('model_type')!r}, not a SegFormer; name the folder or hub id of "
            "one, or make one with `humansd train pocket-segmenter`"
        )
    config = SegformerConfig.from_dict(dict(values))
    person_labels(config.id2label, source)
    return config


def preprocessing(known: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    """Mean and deviation of RGB in 0..1, and side in px, of a preprocessor's config; where it does not say, ImageNet's
    and 0."""
    size = known.get("size")
    side = size.get("height", size.get("shortest_edge", 0)) if isinstance(size, dict) else size
    if not known.get("do_normalize", True):
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), int(side or 0)
    return tuple(known.get("image_mean", MEAN)), tuple(known.get("image_std", STD)), int(side or 0)
