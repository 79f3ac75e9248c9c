"""CLIPSIM: how well an image shows what its prompt says."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import AutoTokenizer, CLIPModel

from humansd.core.arrays import ImageArray
from humansd.models.codec import lost_words
from humansd.models.estimators import usable_device
from humansd.models.features import check_images, clip_place, load_clip, load_processor, pixels, plain_errors
from humansd.models.loading import from_hub

BATCH = 32
_USER = "text similarity"  # begins the messages of errors


class ClipScorer:
    """100 x cosine of the embeddings of image and prompt, from -100 to 100, as HumanSD's table 1 has it.

    Negative values stay, and nothing is scaled, unlike in CLIPScore (Hessel et al. 2021: 2.5 max(cosine, 0)).
    Numbers of different CLIPs do not compare: the paper's are ViT-B/16's; the pocket pair knows Atelier alone.
    """

    def __init__(self, model: CLIPModel, tokenizer: Any, processor: Any, device: torch.device | str = "cpu") -> None:
        """From transformers' CLIP, its tokenizer and its image processor."""
        self._model, self._device = model.eval().to(device), torch.device(device)
        self._tokenizer, self._processor = tokenizer, processor
        self._length = min(int(model.config.text_config.max_position_embeddings), int(tokenizer.model_max_length))

    @classmethod
    def from_pretrained(cls, source: str = "", device: torch.device | str = "cpu") -> ClipScorer:
        """The CLIP of a folder or hub id, or of the folder `clip` in it; "" is the pocket pair that ships.

        The paper's is `openai/clip-vit-base-patch16`.

        Raises:
            OSError: no CLIP there, none in safetensors, or one without weights, tokenizer or image processor.
            ValueError: another kind of model, a tokenizer of another vocabulary, or no such device.
        """
        place, usable = clip_place(source), usable_device(device)
        model, processor = load_clip(place, _USER), load_processor(place, _USER)
        with plain_errors(place, _USER):
            tokenizer = from_hub(AutoTokenizer.from_pretrained, place)
        known, read = len(tokenizer), model.config.text_config.vocab_size
        if known != read:  # also where there is none: transformers then makes one that knows no word
            raise ValueError(
                f"{_USER}: {place} has a tokenizer of {known} tokens, its CLIP reads {read}; put its own there"
            )
        return cls(model, tokenizer, processor, usable)

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The networks that run."""
        return (self._model,)

    @torch.inference_mode()
    def scores(self, images: Sequence[ImageArray], prompts: Sequence[str]) -> NDArray[np.float64]:
        """Each image with its own prompt, (n,). It does not depend on those beside it, but for rounding.

        A prompt longer than the text tower reads is cut, with a UserWarning that names it and what is ignored.

        Args:
            images: uint8 RGB (height, width, 3), of any sizes; the CLIP's own image processor resizes and crops.

        Raises:
            ValueError: not as many prompts as images, or an image of another type or shape.
        """
        if isinstance(prompts, str) or len(images) != len(prompts):
            given = 1 if isinstance(prompts, str) else len(prompts)
            raise ValueError(f"{len(images)} images and {given} prompts; give a list of one prompt an image")
        check_images(images)
        for prompt in prompts:
            lost = lost_words(self._tokenizer, prompt, self._length)
            if lost:
                warnings.warn(
                    f"prompt {prompt[:60]!r} is longer than the {self._length} tokens that this CLIP reads; this part "
                    f"of it is ignored: {lost!r}",
                    UserWarning,
                    stacklevel=3,
                )
        found = np.zeros(len(images))
        for start in range(0, len(images), BATCH):
            some = slice(start, start + BATCH)
            found[some] = self._batch(images[some], prompts[some])
        return found

    def _batch(self, images: Sequence[ImageArray], prompts: Sequence[str]) -> NDArray[np.float64]:
        values = torch.cat([pixels(self._processor, [image]) for image in images])
        tokens = self._tokenizer(
            list(prompts), padding="max_length", max_length=self._length, truncation=True, return_tensors="pt"
        ).to(self._device)
        output = self._model(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, pixel_values=values.to(self._device)
        )
        image, text = output.image_embeds.double(), output.text_embeds.double()
        return 100 * torch.cosine_similarity(image, text).cpu().numpy()
