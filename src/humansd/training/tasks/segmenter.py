"""Training the pocket person segmenter, a small SegFormer, on images with person masks such as Atelier's."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from humansd.data.augment import MILD, STRONG, augment_mask
from humansd.data.image_cache import find_image_cache, to_unit
from humansd.models.segmenter import POCKET_PX, Segmenter, pocket_segmenter
from humansd.training.batch_norms import measure_again
from humansd.training.counting import Shapes
from humansd.training.identity import digests
from humansd.training.randomness import data_row, sample_rng
from humansd.training.tasks.base import BaseTask
from humansd.training.tasks.segmenter_settings import SegmenterSettings

CALIBRATION_BATCHES = 40


class SegmenterTask(BaseTask):
    """Images changed at random, with the masks of their people: cross-entropy of each pixel."""

    def __init__(self, settings: SegmenterSettings) -> None:
        """Raises ValueError: images too small, or none with a person mask."""
        self.settings = settings
        self.image_cache = find_image_cache(Path(settings.data), settings.image_size)
        torch.manual_seed(settings.seed)
        self.module = Segmenter.from_pretrained(settings.init) if settings.init else pocket_segmenter()
        self.side = self.module.input_px or POCKET_PX
        if self.image_cache.size < self.side:
            raise ValueError(
                f"data = {settings.data!r}: images of {self.image_cache.size} px; this segmenter needs at least "
                f"{self.side} px"
            )
        self.rows = np.flatnonzero(self.image_cache.masked) if self.image_cache.masks is not None else np.empty(0, int)
        if not len(self.rows):
            raise ValueError(
                f"data = {settings.data!r}: no sample carries a person mask; Atelier's do (`humansd data atelier`)"
            )
        self.augmentation = STRONG if settings.changes == "strong" else MILD

    @staticmethod
    def shapes(settings: SegmenterSettings) -> Shapes:
        """See `BaseTask.shapes`."""
        network, side = pocket_segmenter(), POCKET_PX
        return Shapes("pocket size", network, {}, lambda n: network(torch.empty(n, 3, side, side, device="meta")))

    def fingerprint(self) -> dict[str, str]:
        return {**digests("init", self.settings.init), "data_digest": self.image_cache.digest()}

    def prepare(self, device: torch.device) -> None:
        self.device = device
        self.module.to(device)

    def load(self, samples: range) -> tuple[Tensor, Tensor]:
        """Images (n, 3, h, w) in [-1, 1] and where their people are, (n, h, w), 0 or 1."""
        images, masks = zip(*(self._sample(index) for index in samples), strict=True)
        return to_unit(np.stack(images)).contiguous(), torch.from_numpy(np.stack(masks)).float()

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, float]]:
        images, masks = (one.to(self.device) for one in batch)
        odds = F.interpolate(self.module(images)[:, None], size=masks.shape[1:], mode="bilinear", align_corners=False)
        loss = F.binary_cross_entropy_with_logits(odds[:, 0], masks)
        return loss, {"iou": float(intersection_over_union(odds[:, 0].detach() > 0, masks > 0.5))}

    def _sample(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        row = int(self.rows[data_row(self.settings.seed, index, len(self.rows))])
        image, mask = self.image_cache.images[row], self.image_cache.mask(row)
        assert mask is not None  # of these rows
        if self.image_cache.size != self.side:
            image = cv2.resize(image, (self.side, self.side), interpolation=cv2.INTER_AREA)
            share = cv2.resize(mask.astype(np.float32), (self.side, self.side), interpolation=cv2.INTER_AREA)
            mask = share > 0.5
        return augment_mask(image, mask, sample_rng(self.settings.seed, index), self.augmentation)

    @torch.no_grad()
    def export(self, folder: Path) -> None:
        """Writes a transformers folder."""
        batch = self.settings.batch_size
        starts = range(2**40, 2**40 + CALIBRATION_BATCHES * batch, batch)
        measure_again(self.module, (self.load(range(start, start + batch))[0].to(self.device) for start in starts))
        self.module.save_pretrained(folder)


def intersection_over_union(found: Tensor, wanted: Tensor) -> Tensor:
    """Of all pixels of a batch of masks, bool (n, h, w) both: shared over covered, 1 where nobody is in either."""
    covered = (found | wanted).sum()
    return torch.where(covered > 0, (found & wanted).sum() / covered.clamp(min=1), torch.ones(()))
