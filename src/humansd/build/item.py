"""A sample on its way: what a source knows of it, what the stages have added, and why it was left out."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from humansd.pose.people import People


@dataclass(frozen=True)
class LeftOut:
    """Why a sample is not in the data set.

    stage: which part of the pipeline said so. reason: a few words, the same for all alike, by which they are counted.
    detail: of this one. retry: whether the next run of the same command may have more luck, as with a dead server.
    """

    stage: str
    reason: str
    detail: str = ""
    retry: bool = False


@dataclass(frozen=True, eq=False)
class Item:
    """A sample on its way.

    index: its place in the source. key: unique in the data set. origin: JSON values that say where it comes from, such
    as {"file": ...}, {"url": ...} or {"prompt": ...}. data: the bytes of an image file. image: uint8 (H, W, 3) RGB.
    people: on the canvas that the source names; on the image's own once it is decoded; None: unknown. members: what a
    shard stores. thumb: a small JPEG of the image, to show what was left out. left_out: why it is not part of
    the data set; None: it is.
    """

    index: int
    key: str
    origin: dict[str, Any]
    data: bytes | None = None
    image: NDArray[np.uint8] | None = None
    people: People | None = None
    caption: str = ""
    scene: str = ""
    source: str = ""
    license: str = ""
    extras: dict[str, Any] = field(default_factory=dict)
    members: dict[str, bytes] | None = None
    thumb: bytes | None = None
    left_out: LeftOut | None = None

    def but(self, **changes: Any) -> Item:
        """The same item with some fields changed."""
        return dataclasses.replace(self, **changes)

    def drop(self, stage: str, reason: str, detail: str = "", *, retry: bool = False) -> Item:
        """The item, left out; its pixels and bytes are let go."""
        why = LeftOut(stage, reason, " ".join(detail.split())[:300], retry)
        thumb = self.thumb if self.image is None else thumbnail(self.image)
        return self.but(left_out=why, data=None, image=None, members=None, thumb=thumb)


Batch = list[Item]
THUMB_PX = 112  # of the longer side


def thumbnail(image: NDArray[np.uint8]) -> bytes:
    """A small JPEG of an image, uint8 (H, W, 3) RGB; equal images give equal bytes."""
    small = Image.fromarray(image)
    small.thumbnail((THUMB_PX, THUMB_PX), Image.Resampling.BOX)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=80)
    return stream.getvalue()


class Stage(Protocol):
    """A step of the pipeline: a frozen dataclass that is called with a batch and gives a batch of the same length, in
    order. What is left out stays in the batch and is passed on untouched. Its fields are plain values: they are written
    down with the data set, and two stages of equal fields do the same.

    `waits`, if true, says that it waits for a network or a GPU and computes little; `light`, that it takes next to no
    time, so that a process of its own would cost more.
    """

    def __call__(self, batch: Batch) -> Batch: ...


class Source(Protocol):
    """A sequence of items that can be asked for in any order, as often as one likes; picklable."""

    def __len__(self) -> int: ...

    def item(self, index: int) -> Item:
        """The item at that place, always the same."""

    def signature(self) -> dict[str, Any]:
        """Plain values that tell this source from any other."""


def each(batch: Batch, change: Callable[[Item], Item]) -> Batch:
    """`change` of every item that is not left out."""
    return [item if item.left_out else change(item) for item in batch]


def together(batch: Batch, chosen: Callable[[Item], bool], change: Callable[[Sequence[Item]], Sequence[Item]]) -> Batch:
    """`change` of all the items at once that are not left out and that are `chosen`."""
    places = [place for place, item in enumerate(batch) if not item.left_out and chosen(item)]
    changed = list(change([batch[place] for place in places])) if places else []
    out = list(batch)
    for place, item in zip(places, changed, strict=True):
        out[place] = item
    return out


def stage_record(stage: Stage) -> dict[str, Any]:
    """Name and fields of a stage as plain values, without those that decide nothing (`place`)."""
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(stage) if dataclasses.is_dataclass(stage) else ()
    known = {one.name: getattr(stage, one.name) for one in fields if not one.metadata.get("place")}
    return {"stage": type(stage).__name__, **known}


def place(default: Any = "") -> Any:
    """A field of a stage that does not decide what becomes of a sample, as where something lies or how long to wait;
    it may differ between the runs of one data set."""
    return field(default=default, metadata={"place": True})
