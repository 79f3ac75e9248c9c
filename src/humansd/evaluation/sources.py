"""What an evaluation draws: the samples of shards, or (`pose_sets`) real poses without images."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from humansd.core.arrays import ImageArray
from humansd.core.digests import file_sha256
from humansd.data.crop import window_for
from humansd.data.sample import Sample
from humansd.data.shards import count_samples, read_shards, shard_files
from humansd.evaluation.colors import named_tops
from humansd.pose.people import People


@dataclass(frozen=True, eq=False)
class Cut:
    """A sample cut to the model's shape: image (None where there is none) and people at its size.

    way: of `data.crop.WAYS`. tops: the colours of tops that the caption names, by person; see `colours.named_tops`.
    """

    key: str
    scene: str
    caption: str
    image: ImageArray | None
    people: People
    way: str
    tops: tuple[str | None, ...] = ()

    @classmethod
    def of(cls, sample: Sample, size: tuple[int, int]) -> Cut:
        """size: (width, height) px."""
        window = window_for(sample.people, size)
        image, people = window.image(sample.image, size), window.people(sample.people, size)
        tops = named_tops(sample.scene, sample.extras, people.n)
        return cls(sample.key, sample.scene, sample.caption, image, people, window.way, tops)


class Source(Protocol):
    """Where prompts and poses come from, and the real images beside them, if there are any."""

    @property
    def has_images(self) -> bool:
        """Whether its cuts have images; where they have none, what compares with them has no value."""

    def total(self, size: tuple[int, int]) -> int:
        """How many cuts there are at (width, height) px; ValueError where there is none."""

    def cuts(self, size: tuple[int, int]) -> Iterator[Cut]:
        """All of them, in an order of their own."""

    def record(self, size: tuple[int, int]) -> dict[str, Any]:
        """What a run records of it: `name`, `digest` (of the content alone), `samples`, and what else tells it."""


@dataclass(frozen=True)
class Shards:
    """The first `limit` samples (0: all) of the shards at `path`."""

    path: Path
    limit: int = 0
    has_images = True

    def total(self, size: tuple[int, int] = (0, 0)) -> int:
        """See `Source.total`; the size does not matter."""
        total = count_samples(self.path)
        total = min(total, self.limit) if self.limit else total
        if not total:
            raise ValueError(f"{self.path}: holds no sample; name shards that `humansd data` wrote")
        return total

    def cuts(self, size: tuple[int, int]) -> Iterator[Cut]:
        """See `Source.cuts`."""
        return (Cut.of(sample, size) for sample in itertools.islice(read_shards(self.path), self.total()))

    def record(self, size: tuple[int, int] = (0, 0)) -> dict[str, Any]:
        """See `Source.record`; the digest is that of the shards' content, whatever their names."""
        content = "\n".join(map(file_sha256, shard_files(self.path)))
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        return {"name": self.path.name, "digest": digest, "samples": self.total()}
