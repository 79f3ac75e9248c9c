"""Training the pocket estimators on images with known people: HigherHRNet, and CenterNet, the held-out one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from humansd.data.augment import MILD, STRONG, augment
from humansd.data.image_cache import find_image_cache, to_unit
from humansd.losses.pose import focal_error, heatmap_error, offset_error, tag_error
from humansd.models.centernet_codec import centre_targets
from humansd.models.centernet_pose import CENTERNET, CenterNetPose
from humansd.models.heatmap_targets import joint_arrays, target_heatmaps
from humansd.models.higherhrnet import CONFIGS, HigherHRNet
from humansd.models.higherhrnet_codec import joint_places
from humansd.pose.people import People
from humansd.training.batch_norms import measure_again
from humansd.training.counting import Shapes
from humansd.training.identity import digests
from humansd.training.randomness import data_row, sample_rng
from humansd.training.tasks.base import BaseTask
from humansd.training.tasks.estimators_settings import EstimatorSettings

HEAT_SIGMAS = {4: 1.0, 2: 1.5}  # stride of the maps -> px of the maps
CALIBRATION_BATCHES = 40


class EstimatorTask(BaseTask):
    """Images changed at random, people known exactly, one of two architectures (`settings.kind`)."""

    def __init__(self, settings: EstimatorSettings) -> None:
        self.settings = settings
        self.image_cache = find_image_cache(Path(settings.data), settings.image_size)
        torch.manual_seed(settings.seed)
        self.module = _new_network(settings.kind) if not settings.init else _load_network(settings.kind, settings.init)
        self.side = self.module.config.input_px
        if self.image_cache.size < self.side:
            raise ValueError(
                f"data = {settings.data!r}: images of {self.image_cache.size} px; this estimator needs at least "
                f"{self.side} px"
            )
        times = [settings.group_repeats if people.n > 1 else 1 for people in self.image_cache.people]
        self.rows = np.repeat(np.arange(len(self.image_cache)), times)
        self.augmentation = STRONG if settings.changes == "strong" else MILD

    @staticmethod
    def shapes(settings: EstimatorSettings) -> Shapes:
        """See `BaseTask.shapes`."""
        network = _new_network(settings.kind)
        side = network.config.input_px
        return Shapes("pocket size", network, {}, lambda n: network(torch.empty(n, 3, side, side, device="meta")))

    @property
    def estimator_kind(self) -> str:
        """The name under which the trained network loads (`models.estimators`)."""
        return self.settings.kind

    def fingerprint(self) -> dict[str, str]:
        return {**digests("init", self.settings.init), "data_digest": self.image_cache.digest()}

    def prepare(self, device: torch.device) -> None:
        # On a CPU the backward pass of CenterNet's group norms is slower in channels_last.
        slower = self.settings.kind == "centernet" and device.type == "cpu"
        self.device, self.layout = device, torch.contiguous_format if slower else torch.channels_last
        self.module.to(device, memory_format=self.layout)  # type: ignore[call-overload]

    def load(self, samples: range) -> dict[str, Tensor]:
        """Images (n, 3, h, w) in [-1, 1] as "images", and what the kind's loss wants of their people."""
        changed = [self._sample(index) for index in samples]
        everyone = [people for _, people in changed]
        targets = _tag_targets(everyone) if self.settings.kind == "higherhrnet" else _centre_targets(everyone)
        images = to_unit(np.stack([image for image, _ in changed])).contiguous()
        return {"images": images, **_joints(everyone), **targets}

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
        batch["images"] = batch["images"].contiguous(memory_format=self.layout)
        return self._heatmap_loss(batch) if self.settings.kind == "higherhrnet" else self._centre_loss(batch)

    def _sample(self, index: int) -> tuple[np.ndarray, People]:
        rng = sample_rng(self.settings.seed, index)
        row = self.rows[data_row(self.settings.seed, index, len(self.rows))]
        image, people = self.image_cache.images[row], self.image_cache.people[row]
        if self.image_cache.size != self.side:
            image = cv2.resize(image, (self.side, self.side), interpolation=cv2.INTER_AREA)
            people = people.resize(self.side, self.side)
        return augment(image, people, rng, self.augmentation)

    def _heatmap_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        maps = self.module(batch["images"])
        coarse, fine = self._heatmaps(batch, 4), self._heatmaps(batch, 2)
        heat = heatmap_error(maps.quarter, coarse) + heatmap_error(maps.half, fine)
        pull, push = tag_error(maps.tags, batch["places"], batch["seen"])
        total = self.settings.heat_weight * heat + pull + push
        return total, {"heat": heat.item(), "pull": pull.item(), "push": push.item()}

    def _centre_loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        maps = self.module(batch["images"])
        centres = focal_error(maps.centre, batch["centre"])
        joint = focal_error(maps.joints, self._heatmaps(batch, 2, peaked=True))
        away = offset_error(maps.offset, batch["offset"], batch["asked"])
        total = centres + joint + 2 * away
        return total, {"centre": centres.item(), "joints": joint.item(), "offset": away.item()}

    def _heatmaps(self, batch: dict[str, Tensor], stride: int, peaked: bool = False) -> Tensor:
        return target_heatmaps(batch["xy"], batch["there"], self.side, stride, HEAT_SIGMAS[stride], peaked)

    @torch.no_grad()
    def export(self, folder: Path) -> None:
        """Writes the network, its batch norms measured again."""
        measure_again(self.module, self._calibration())
        self.module.save_pretrained(folder)

    def _calibration(self) -> Iterator[Tensor]:
        batch = self.settings.batch_size
        for start in range(0, CALIBRATION_BATCHES * batch, batch):
            changed = [self._sample(2**40 + start + i)[0] for i in range(batch)]
            yield to_unit(np.stack(changed)).contiguous().to(self.device)


def _new_network(kind: str) -> HigherHRNet | CenterNetPose:
    """An untrained one, of the size that ships."""
    return HigherHRNet(CONFIGS["pocket"]) if kind == "higherhrnet" else CenterNetPose(CENTERNET)


def _load_network(kind: str, folder: str) -> HigherHRNet | CenterNetPose:
    network = HigherHRNet if kind == "higherhrnet" else CenterNetPose
    return network.from_pretrained(Path(folder))


def _joints(everyone: Sequence[People]) -> dict[str, Tensor]:
    xy, there = (_stacked(column) for column in zip(*map(joint_arrays, everyone), strict=True))
    return {"xy": xy, "there": there}


def _tag_targets(everyone: Sequence[People]) -> dict[str, Tensor]:
    places, seen = (_stacked(column) for column in zip(*(joint_places(people, 4) for people in everyone), strict=True))
    return {"places": places, "seen": seen}


def _centre_targets(everyone: Sequence[People]) -> dict[str, Tensor]:
    targets = zip(*(centre_targets(people, 4, HEAT_SIGMAS[4]) for people in everyone), strict=True)
    centre, offset, asked = (_stacked(column) for column in targets)
    return {"centre": centre, "offset": offset, "asked": asked}


def _stacked(arrays: Iterable[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(list(arrays)))
