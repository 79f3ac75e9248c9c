"""The small model that an adapter of CN117392675A learns from: which one a setting names, whether it is here and fits.

Key points by a HigherHRNet, as everywhere in this room (`training.teachers`), or person masks by a SegFormer. All of it
is known before a weight is loaded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn
from transformers import SegformerConfig

from humansd.models.higherhrnet import HigherHRNet
from humansd.models.segmenter import (
    POCKET,
    POCKET_PX,
    TWO_LABELS,
    Segmenter,
    preprocessing,
    segmenter_config,
    untrained_segmenter,
)
from humansd.training.bases import local_file
from humansd.training.heatmap_weighting import load_teacher_network
from humansd.training.sights import KeyPointSight, MaskSight, Sight
from humansd.training.tasks.dual_adapter_settings import SEGFORMER, DualAdapterSettings
from humansd.training.teachers import TeacherInfo, check_fit, find_teacher, teacher_folder

WHO = "the secondary adapter"
REMEDY = f"make one with `humansd train pocket-segmenter` and name its export with --set estimator={SEGFORMER}=FOLDER"


class SmallModel(Protocol):
    """A small model by name. `str` says in words what it is."""

    def source(self) -> str:
        """Folder or hub id of its weights. ValueError where they are not here."""

    def shown_px(self, asked: int, image_px: int) -> int:
        """Side of the image that it is shown: `asked`, or for 0 its own, where the model draws images of `image_px`."""

    def check_fit(self, image_px: int, shown: int) -> None:
        """ValueError where it can see nothing in images of `image_px` that it is shown at `shown` px."""

    def untrained(self) -> nn.Module:
        """Its network; on the meta device nothing is allocated."""

    def load(self) -> nn.Module:
        """Its network with its weights. ValueError, OSError: they are not here, or another's."""

    def sight(self, decoder: Any, network: Any, shown: int) -> Sight:
        """What is seen through a decoder and this network."""


@dataclass(frozen=True)
class KeyPoints:
    """HigherHRNet. sharpness: of the soft-argmax."""

    teacher: TeacherInfo
    sharpness: float

    def __str__(self) -> str:
        return str(self.teacher)

    def source(self) -> str:
        """See `SmallModel`."""
        return str(teacher_folder(self.teacher))

    def shown_px(self, asked: int, image_px: int) -> int:
        """See `SmallModel`."""
        return asked or self.teacher.config.input_px

    def check_fit(self, image_px: int, shown: int) -> None:
        """See `SmallModel`."""
        check_fit(self.teacher, image_px, shown)

    def untrained(self) -> HigherHRNet:
        """See `SmallModel`."""
        return HigherHRNet(self.teacher.config)

    def load(self) -> HigherHRNet:
        """See `SmallModel`."""
        return load_teacher_network(self.source())

    def sight(self, decoder: Any, network: Any, shown: int) -> KeyPointSight:
        """See `SmallModel`."""
        return KeyPointSight(decoder, network, shown, self.sharpness)


@dataclass(frozen=True)
class PersonMasks:
    """SegFormer. place: folder or hub id; "": the pocket size, without weights. config: transformers'. supposed: the
    sizes are those of a B0, as nothing is known here of a hub id. input_px: of the images it learnt from; 0: unknown.
    """

    place: str
    config: SegformerConfig
    supposed: bool
    input_px: int

    def __str__(self) -> str:
        if not self.place:
            return f"{SEGFORMER}: SegFormer of the pocket size; its weights are not here: {REMEDY}"
        return f"{SEGFORMER}={self.place}: SegFormer" + (", supposed to be a B0" if self.supposed else "")

    def source(self) -> str:
        """See `SmallModel`."""
        if not self.place:
            raise ValueError(f"estimator = {SEGFORMER!r}: its weights do not ship; {REMEDY}")
        return self.place

    def shown_px(self, asked: int, image_px: int) -> int:
        """See `SmallModel`."""
        return asked or self.input_px or image_px

    def check_fit(self, image_px: int, shown: int) -> None:
        """See `SmallModel`."""
        if shown % 32:
            raise ValueError(
                f"estimator = '{SEGFORMER}={self.place}': would be shown images of {shown} px, and a SegFormer takes "
                "multiples of 32; use --set estimator_px=PIXELS"
            )

    def untrained(self) -> Segmenter:
        """See `SmallModel`."""
        return untrained_segmenter(self.config, self.input_px)

    def load(self) -> Segmenter:
        """See `SmallModel`."""
        return Segmenter.from_pretrained(self.source())

    def sight(self, decoder: Any, network: Any, shown: int) -> MaskSight:
        """See `SmallModel`."""
        return MaskSight(decoder, network, shown)


def small_model(settings: DualAdapterSettings) -> SmallModel:
    """What `settings.estimator` names: a HigherHRNet as of `find_teacher`, or "segformer=FOLDER_OR_ID".

    Raises:
        ValueError: none is named, or another network, or one that knows no people. OSError: a folder that is not there.
    """
    kind, _, place = settings.estimator.partition("=")
    if kind != SEGFORMER:
        return KeyPoints(find_teacher(settings.estimator, WHO), settings.sharpness)
    if not place:
        return PersonMasks("", SegformerConfig(**POCKET), False, POCKET_PX)
    return _named(place)


def _named(place: str) -> PersonMasks:
    told = f"estimator = '{SEGFORMER}={place}'"
    path, preprocessor = (local_file(place, "", name) for name in ("config.json", "preprocessor_config.json"))
    if path is None:
        if Path(place).is_dir() or place.count("/") != 1 or place.startswith((".", "/", "~")):
            raise FileNotFoundError(f"{told}: there is no {Path(place) / 'config.json'}; {REMEDY}")
        return PersonMasks(place, SegformerConfig(**TWO_LABELS), True, 0)  # transformers' own sizes: a B0
    try:
        values = json.loads(path.read_text())
        known = json.loads(preprocessor.read_text()) if preprocessor is not None else {}
    except ValueError as error:
        raise ValueError(f"{told}: {path.parent}: a config that cannot be read ({error}); {REMEDY}") from None
    return PersonMasks(place, segmenter_config(values, told), False, preprocessing(known)[2])
