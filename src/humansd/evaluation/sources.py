"""What an evaluation draws: the samples of shards, or (`pose_sets`) real poses without images."""

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from humansd.core.arrays import ImageArray
from humansd.core.digests import file_sha256
from humansd.data.crop import window_for
from humansd.data.salvage import sample_faults
from humansd.data.sample import Sample
from humansd.data.shards import read_members, read_shards, shard_files
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

    def keys(self, size: tuple[int, int]) -> list[str]:
        """The keys of all cuts, in their order, without decoding an image."""

    def cuts(self, size: tuple[int, int]) -> Iterator[Cut]:
        """All of them, in an order of their own."""

    def record(self, size: tuple[int, int]) -> dict[str, Any]:
        """What a run records of it: `name`, `digest` (of the content alone), `samples`, and what else tells it."""


@dataclass(frozen=True)
class Shards:
    """The first `limit` samples (0: all) of the shards at `path` that can be used; the others are told and left out."""

    path: Path
    limit: int = 0
    has_images = True

    def total(self, size: tuple[int, int] = (0, 0)) -> int:
        """See `Source.total`; the size does not matter."""
        return self._sound

    def keys(self, size: tuple[int, int] = (0, 0)) -> list[str]:
        """See `Source.keys`."""
        members = (one for path in shard_files(self.path) for one in read_members(path))
        sound = (str(one["__key__"]) for one in members if one["__key__"] not in self._faults)
        return list(itertools.islice(sound, self._sound))

    def cuts(self, size: tuple[int, int]) -> Iterator[Cut]:
        """See `Source.cuts`."""
        samples = read_shards(self.path, self._faults)
        return (Cut.of(sample, size) for sample in itertools.islice(samples, self._sound))

    def record(self, size: tuple[int, int] = (0, 0)) -> dict[str, Any]:
        """See `Source.record`; the digest is that of the shards' content, whatever their names."""
        content = "\n".join(map(file_sha256, shard_files(self.path)))
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        left_out = {"left_out": len(self._faults)} if self._faults else {}
        return {"name": self.path.name, "digest": digest, "samples": self.total(), **left_out}

    @property
    def _sound(self) -> int:
        return self._looked_at[0]

    @property
    def _faults(self) -> dict[str, str]:
        return self._looked_at[1]

    @cached_property
    def _looked_at(self) -> tuple[int, dict[str, str]]:
        """`sample_faults`, told once; ValueError where no sample is left."""
        sound, faults = sample_faults(self.path, self.limit)
        first = next(iter(faults.values()), "")
        if not sound:
            why = f"not one of {len(faults)} samples can be used, the first: {first}" if faults else "holds no sample"
            raise ValueError(f"{self.path}: {why}; name shards that `humansd data` wrote")
        if faults:
            told = f"{self.path}: {len(faults)} samples cannot be used and are left out, the first: {first}"
            warnings.warn(told, UserWarning, stacklevel=2)
        return sound, faults
