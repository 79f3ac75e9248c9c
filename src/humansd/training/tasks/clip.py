"""Training the text and the vision model together, contrastively (CLIP)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPImageProcessor

from humansd.data.image_cache import find_image_cache, to_unit
from humansd.models.pocket import MAX_TOKENS, SEEN_SIZE, pocket_clip, text_model, train_tokenizer
from humansd.training.counting import Shapes
from humansd.training.randomness import data_row, sample_rng
from humansd.training.tasks.base import BaseTask
from humansd.training.tasks.clip_settings import ClipSettings


class ClipTask(BaseTask):
    """InfoNCE over the pairs of a batch (Radford et al. 2021, fig. 3)."""

    def __init__(self, settings: ClipSettings) -> None:
        self.settings = settings
        self.image_cache = find_image_cache(Path(settings.data), settings.image_size)
        captions = (caption for wordings in self.image_cache.captions for caption in wordings)
        self.tokenizer = train_tokenizer(captions, settings.vocabulary)
        torch.manual_seed(settings.seed)
        self.module = pocket_clip(len(self.tokenizer))
        self.side = int(self.module.config.vision_config.image_size)

    @staticmethod
    def shapes(settings: ClipSettings) -> Shapes:
        """See `BaseTask.shapes`."""
        clip = pocket_clip(settings.vocabulary)
        clip.set_attn_implementation("eager")

        def forward(samples: int) -> Any:
            ids = torch.zeros(samples, MAX_TOKENS, dtype=torch.long, device="meta")
            images = torch.empty(samples, 3, SEEN_SIZE, SEEN_SIZE, device="meta")
            return clip(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=images).logits_per_text

        return Shapes("pocket size", clip, {}, forward)

    def fingerprint(self) -> dict[str, str]:
        return {"data_digest": self.image_cache.digest()}

    def prepare(self, device: torch.device) -> None:
        self.device = device
        self.module.to(device)
        if (
            device.type == "cpu"
        ):  # as matrix products attention reaches a CPU's bf16 units (1.4 times the pairs a second)
            self.module.set_attn_implementation("eager")

    def load(self, samples: range) -> dict[str, Tensor]:
        """What CLIPModel reads of the pairs."""
        images, captions = zip(*(self._pair(index) for index in samples), strict=True)
        tokens = self.tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt")
        return {
            "input_ids": tokens.input_ids,
            "attention_mask": tokens.attention_mask,
            "pixel_values": to_unit(np.stack(images)),
        }

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        output = self.module(**{name: tensor.to(self.device) for name, tensor in batch.items()})
        logits = output.logits_per_text.float()
        truth = torch.arange(len(logits), device=self.device)
        loss = (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2
        return loss, {"accuracy": (logits.argmax(1) == truth).float().mean().item()}

    def _pair(self, index: int) -> tuple[np.ndarray, str]:
        rng = sample_rng(self.settings.seed, index)
        row = data_row(self.settings.seed, index, len(self.image_cache))
        pad = self.settings.crop_padding
        image = np.pad(self.image_cache.images[row], ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
        x, y = rng.integers(0, 2 * pad + 1, 2)
        image = image[y : y + self.image_cache.size, x : x + self.image_cache.size]
        if self.image_cache.size != self.side:
            image = cv2.resize(image, (self.side, self.side), interpolation=cv2.INTER_AREA)
        wordings = self.image_cache.captions[row]
        return (image[:, ::-1] if rng.random() < 0.5 else image), wordings[int(rng.integers(len(wordings)))]

    def export(self, folder: Path) -> None:
        """Writes text_encoder and tokenizer (for the pipeline), and both models with their processor as `clip`."""
        self.module.eval()
        text_model(self.module).save_pretrained(folder / "text_encoder")
        self.module.save_pretrained(folder / "clip")
        size = {"height": self.side, "width": self.side}
        processor = CLIPImageProcessor(size=size, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3)
        for part in ("tokenizer", "clip"):
            self.tokenizer.save_pretrained(folder / part)
        processor.save_pretrained(folder / "clip")
