"""Who describes images: the protocol of every captioner, and the table of those there are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from humansd.models.estimators import usable_device
from humansd.models.loading import from_hub


class Captioner(Protocol):
    """Describes images."""

    def caption(self, images: Sequence[NDArray[np.uint8]]) -> list[str]:
        """One sentence an image; images are uint8 (H, W, 3) RGB of any sizes. "" where it has nothing to say."""


class TransformersCaptioner:
    """An image-to-text model of transformers (BLIP, GIT, a vision encoder with a text decoder), the user's weights."""

    def __init__(self, weights: str, device: torch.device) -> None:
        from transformers import (
            AutoConfig,
            AutoImageProcessor,
            AutoModelForImageTextToText,
            AutoTokenizer,
            VisionEncoderDecoderModel,
        )

        config = from_hub(AutoConfig.from_pretrained, weights)
        kind: Any = VisionEncoderDecoderModel if config.model_type == "vision-encoder-decoder" else None
        kind = kind or AutoModelForImageTextToText
        self.model = from_hub(kind.from_pretrained, weights, use_safetensors=True).to(device).eval()
        self.processor = from_hub(AutoImageProcessor.from_pretrained, weights)
        self.tokenizer = from_hub(AutoTokenizer.from_pretrained, weights)
        self.device = device
        # A vision encoder with a text decoder is asked as CN117392675A asks ViT-GPT2.
        pair = config.model_type == "vision-encoder-decoder"
        self.how: dict[str, int] = {"max_length": 30, "num_beams": 5} if pair else {"max_new_tokens": 60}

    @torch.no_grad()
    def caption(self, images: Sequence[NDArray[np.uint8]]) -> list[str]:
        inputs = self.processor(images=[Image.fromarray(image) for image in images], return_tensors="pt")
        ids = self.model.generate(inputs["pixel_values"].to(self.device), **self.how)
        return [" ".join(text.split()) for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]


# name -> maker of (folder or hub id, device)
CAPTIONERS: dict[str, Callable[[str, torch.device], Captioner]] = {"transformers": TransformersCaptioner}


@functools.cache
def load_captioner(name: str, weights: str = "", device: str = "cpu") -> Captioner:
    """The captioner `name` with the weights of a folder or hub id.

    Raises:
        ValueError: no such captioner or device, or no weights are named.
        OSError: the weights cannot be had.
    """
    if name not in CAPTIONERS:
        raise ValueError(f"captioner {name!r} is not known; choose one of {', '.join(CAPTIONERS)}")
    if not weights:
        raise ValueError(f"captioner {name!r} ships no weights; name a folder or hub id, such as {name}=my-blip")
    return CAPTIONERS[name](weights, usable_device(device))
