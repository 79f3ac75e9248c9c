"""CLIPSIM: how well a picture shows what its prompt says (HumanSD sec. 5.1; Hessel et al. 2021)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

from humansd.models.estimators import Picture, usable_device
from humansd.models.features import POCKET_CLIP
from humansd.models.loading import load_part

BATCH = 32


class ClipScorer:
    """100 x cosine of the embeddings of picture and prompt, -100..100.

    Numbers of different CLIPs do not compare: the paper's are ViT-B/16's; the pocket pair knows Atelier alone.
    """

    def __init__(self, model: CLIPModel, tokenizer: Any, processor: Any, device: torch.device | str = "cpu") -> None:
        self._model, self._device = model.eval().to(device), torch.device(device)
        self._tokenizer, self._processor = tokenizer, processor
        self._longest = int(model.config.text_config.max_position_embeddings)

    @classmethod
    def from_pretrained(cls, source: str = "", device: torch.device | str = "cpu") -> ClipScorer:
        """transformers' CLIP of a folder or hub id; "" is the pocket pair that ships.

        Raises:
            OSError: no CLIP there, or none in safetensors.
            ValueError: no such device.
        """
        place = source or str(POCKET_CLIP)
        model = load_part(CLIPModel, place)
        tokenizer, processor = AutoTokenizer.from_pretrained(place), AutoImageProcessor.from_pretrained(place)
        return cls(model, tokenizer, processor, usable_device(device))

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The networks that run."""
        return (self._model,)

    @torch.inference_mode()
    def scores(self, pictures: Sequence[Picture], prompts: Sequence[str]) -> NDArray[np.float64]:
        """(n,) of each picture, uint8 RGB (height, width, 3), with its own prompt.

        A prompt longer than the tower reads is cut, with a warning that shows its beginning.

        Raises:
            ValueError: not as many prompts as pictures.
        """
        if len(pictures) != len(prompts):
            raise ValueError(f"{len(pictures)} pictures and {len(prompts)} prompts; give one prompt a picture")
        found = np.zeros(len(pictures))
        for start in range(0, len(pictures), BATCH):
            some = slice(start, start + BATCH)
            found[some] = self._batch(pictures[some], prompts[some]).cpu().numpy()
        return found

    def _batch(self, pictures: Sequence[Picture], prompts: Sequence[str]) -> torch.Tensor:
        images = [Image.fromarray(picture) for picture in pictures]
        pixels = self._processor(images=images, return_tensors="pt")["pixel_values"]
        for prompt in prompts:
            if len(self._tokenizer(prompt).input_ids) > self._longest:
                warnings.warn(f"a prompt is longer than {self._longest} tokens and cut: {prompt[:60]!r}", stacklevel=4)
        tokens = self._tokenizer(
            list(prompts), padding="max_length", max_length=self._longest, truncation=True, return_tensors="pt"
        ).to(self._device)
        output = self._model(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, pixel_values=pixels.to(self._device)
        )
        return 100 * torch.cosine_similarity(output.image_embeds.double(), output.text_embeds.double())
