"""The estimator for photographs: frame, MoveNet, its decoding, and what counts as a person and as a joint."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from humansd.models.letterbox import framed
from humansd.models.movenet import MULTIPLE, FoundPeople, MoveNet, decode
from humansd.pose.compare import oks
from humansd.pose.people import People

MOST_PEOPLE = 20  # looked for in an image; the published graph looks for 6
# Chosen once, on the 42 photographs of the weights' card.
PERSON_THRESHOLD = 0.08
JOINT_THRESHOLD = 0.05
TWINS = 0.5  # on those photographs anything from 0.3 to 0.9 gives the same AP


@dataclass(frozen=True, eq=False)
class MoveNetEstimator:
    """`PoseEstimator` around a MoveNet.

    An image is resized to `longest_px` on its longer side (0: as the config says; larger sees smaller people and takes
    longer) and continued in black at the right and bottom to multiples of 32. A person counts from `person_threshold`
    on, a joint from `joint_threshold` on, both in 0..1.
    """

    network: MoveNet
    longest_px: int = 0
    person_threshold: float = PERSON_THRESHOLD
    joint_threshold: float = JOINT_THRESHOLD
    batch_size: int = 8
    name: str = "movenet"

    def __post_init__(self) -> None:
        if self.longest_px < 0 or self.longest_px % MULTIPLE:
            raise ValueError(f"longest_px is {self.longest_px}; give a multiple of {MULTIPLE}, such as 384")

    @classmethod
    def from_pretrained(cls, folder: Path, device: torch.device | str = "cpu") -> MoveNetEstimator:
        """From a folder of `MoveNet.save_pretrained`."""
        network = MoveNet.from_pretrained(folder).to(device)
        # A quarter less time on a CPU; PyTorch's types do not know this form of `to`.
        return cls(network.to(memory_format=torch.channels_last))  # type: ignore[call-overload]

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """See `PoseEstimator.networks`."""
        return (self.network,)

    @torch.inference_mode()
    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[People]:
        """See `PoseEstimator.detect`."""
        longest = self.longest_px or self.network.config.input_px
        by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
        frames = [framed(image, longest, MULTIPLE) for image in images]
        for number, frame in enumerate(frames):
            by_shape[tuple(frame.shape)].append(number)
        found: dict[int, People] = {}
        device = next(self.network.parameters()).device
        for numbers in by_shape.values():
            for start in range(0, len(numbers), self.batch_size):
                batch = numbers[start : start + self.batch_size]
                stacked = torch.stack([frames[number] for number in batch])
                maps = self.network(stacked.to(device, memory_format=torch.channels_last))
                for index, number in enumerate(batch):
                    found[number] = self._people(decode(maps, index, MOST_PEOPLE), images[number], longest)
        return [found[number] for number in range(len(images))]

    def _people(self, found: FoundPeople, image: NDArray[np.uint8], longest: int) -> People:
        """The people on the image's own canvas, surest first."""
        height, width = image.shape[:2]
        person = found.person_score.double().cpu().numpy()
        order = np.argsort(-person, kind="stable")
        order = order[person[order] >= self.person_threshold]
        # MoveNet says shares of the frame's sides, as it learnt from COCO, and not centers of pixels.
        xy = found.xy.double().cpu().numpy()[order] * (max(width, height) / longest)
        score = found.joint_score.double().cpu().numpy()[order].clip(0, 1)
        seen = score >= self.joint_threshold
        people = People.of(
            np.where(seen[..., None], xy, 0.0),
            (width, height),
            score=np.where(seen, score, 0.0),
            visibility=np.where(seen, 2, 0).astype(np.uint8),
            extras=[{"score": value} for value in person[order].clip(0, 1).tolist()],
        )
        return without_twins(people.drop_outside().with_joints())  # in the black border nobody can be


def without_twins(people: People, limit: float = TWINS) -> People:
    """People, surest first, without those who are a surer one once more: over the joints that both have, the object
    keypoint similarity comes to `limit` or more of all the joints that they have."""
    if people.n < 2:
        return people
    alike = oks(people, people) * people.labelled.sum(1)[:, None]  # (surer, less sure), in joints
    share = alike / np.maximum(people.labelled.sum(1)[None], 1)
    kept: list[int] = []
    for number in range(people.n):
        if all(share[other, number] < limit for other in kept):
            kept.append(number)
    return people.select(kept)
