"""The image that a drawing begins with, and where it may change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from humansd.core.arrays import ImageArray
from humansd.inference.detect import read_photo
from humansd.inference.image_info import read_png_info
from humansd.inference.kept import pixels_record
from humansd.inference.pose_files import NamedPose
from humansd.inference.sampling import SamplingConfig
from humansd.models.estimators import PoseEstimator
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.image_to_image import HumanSDImg2ImgPipeline, HumanSDInpaintPipeline
from humansd.pipelines.sizes import output_size
from humansd.pipelines.start_images import check_mask, check_strength, grey, repose_mask
from humansd.pose.people import People

log = logging.getLogger(__name__)

BY_POSE = "pose"


@dataclass(frozen=True)
class Beginning:
    """What a user names.

    image: file of the image. strength: above 0 to 1, how much may change; None: 0.6, and 1 in a mask.
    mask: file of a grey image of the same size, white where it is drawn; "pose": around those who stand otherwise in
    the new pose; "": everywhere.
    """

    image: Path
    strength: float | None = None
    mask: str = ""

    def __post_init__(self) -> None:
        if self.strength is not None:
            check_strength(self.strength)


@dataclass(frozen=True, eq=False)
class Start:
    """What an image begins with, read. begin: how it was named. image: uint8 RGB (height, width, 3). mask: uint8
    (height, width), or None. people: those of the image, for a mask by pose."""

    begin: Beginning
    image: ImageArray
    mask: np.ndarray | None = None
    people: People | None = None

    @property
    def masked(self) -> bool:
        """Whether parts of the image are kept."""
        return bool(self.begin.mask)

    @property
    def strength(self) -> float:
        """How much may change, 0..1."""
        return (1.0 if self.masked else 0.6) if self.begin.strength is None else self.begin.strength

    def pipeline(self, pipeline: HumanSDPipeline) -> HumanSDPipeline:
        """The pipeline of the same components that begins with an image."""
        return pipeline.sibling(HumanSDInpaintPipeline if self.masked else HumanSDImg2ImgPipeline)

    def sized(self, sampling: SamplingConfig, pipeline: HumanSDPipeline) -> SamplingConfig:
        """`sampling` at the image's shape where it names no size."""
        width, height = sampling.size or (None, None)
        return replace(sampling, size=output_size(pipeline, self.image, width, height))

    def options(self, poses: Sequence[NamedPose]) -> dict[str, Any]:
        """Keyword arguments of a call for images in these poses."""
        given: dict[str, Any] = {"image": self.image, "strength": self.strength}
        return given | ({"mask_image": [self._mask(pose) for pose in poses]} if self.masked else {})

    def record(self) -> dict[str, Any]:
        """What an image says of it."""
        mask = self.begin.mask if self.begin.mask in ("", BY_POSE) else Path(self.begin.mask).name
        known = {"image": self.begin.image.name, "image_pixels": pixels_record(self.image, self.mask)}
        return {**known, "strength": self.strength, **({"mask": mask} if mask else {})}

    def _mask(self, pose: NamedPose) -> np.ndarray:
        if self.mask is not None:
            return self.mask
        if self.people is None or not isinstance(pose.pose, People):
            raise ValueError(f"pose {pose.name!r}: a mask by pose needs key points, not a drawing; name a mask file")
        size = (self.image.shape[1], self.image.shape[0])
        return repose_mask(self.people, pose.pose.fit(*size), size)


def read_start(begin: Beginning, estimator: Callable[[], PoseEstimator]) -> Start:
    """Reads the image and its mask.

    The people of the image, for a mask by pose, are those of its own record where humansd drew it, else those that
    `estimator` finds.

    Raises:
        ValueError, OSError: a file that cannot be read, a mask of another size or an empty one, nobody in the image.
    """
    image = read_photo(begin.image)
    if begin.mask == BY_POSE:
        people = _people_of(begin.image, image, estimator)
        return Start(begin, image, people=people)
    if not begin.mask:
        return Start(begin, image)
    mask = grey(Image.fromarray(read_photo(Path(begin.mask))))
    try:
        check_mask(image, mask)
    except ValueError as error:
        raise ValueError(f"{begin.mask}: {error}") from None
    return Start(begin, image, mask)


def _people_of(file: Path, image: ImageArray, estimator: Callable[[], PoseEstimator]) -> People:
    try:
        known = read_png_info(file).get("people")
    except ValueError:
        known = None
    if known:
        return People.from_json(known)
    seer = estimator()
    people = seer.detect([image])[0]
    if not people.labelled.any():
        raise ValueError(f"{file}: nobody was found in it by {seer.name}; name a mask file with --mask")
    found = "person" if people.n == 1 else "people"
    log.info("%s: %d %s found by %s", file.name, people.n, found, seer.name)
    return people
