"""Images of several shapes for one training: each cut to the nearest of a few shapes of about the same area.

The alternative to cutting all to squares (`data.image_cache`): less is cut away, and what is learnt from is never
stretched and has no bars. A bucket is an image cache of one shape; their rows are numbered through, bucket by bucket.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tqdm import tqdm

from humansd.core.files import write_json
from humansd.core.lock import locked
from humansd.data.crop import cut_sample
from humansd.data.image_cache import ImageCache, about_of, open_image_cache, refuse_changes
from humansd.data.image_rows import RowsWriter
from humansd.data.salvage import damage_note, expected_samples, read_undamaged, refuse_altered, shard_records
from humansd.pose.people import People

Shape = tuple[int, int]  # (width, height) px


def bucket_shapes(side: int, longest: float, step: int) -> list[Shape]:
    """The shapes of about `side`² px: sides that are multiples of `step` px, no more px than the square has, and sides
    that differ by at most the factor `longest`; from the narrowest to the widest.

    Raises:
        ValueError: `side` is no multiple of `step`.
    """
    if side < step or side % step:
        raise ValueError(f"image_size = {side}: must be a multiple of {step} px, which is what the UNet takes")
    shapes = {(side, side)}
    for short in range(step, side, step):
        long = side * side // short // step * step
        if long <= longest * short:
            shapes |= {(short, long), (long, short)}
    return sorted(shapes, key=lambda shape: (shape[0] / shape[1], shape))


def nearest_shape(shapes: Sequence[Shape], size: Shape) -> Shape:
    """The one that cuts least from an image of `size` (width, height) px; of equals the first."""
    wanted = math.log(size[0] / size[1])
    return min(shapes, key=lambda shape: abs(math.log(shape[0] / shape[1]) - wanted))


@dataclass(frozen=True)
class StackedRows:
    """Arrays of different shapes, whose rows are numbered through."""

    arrays: Sequence[Any]

    def __getitem__(self, row: int) -> Any:
        for array in self.arrays:
            if row < len(array):
                return array[row]
            row -= len(array)
        raise IndexError(row)

    def __len__(self) -> int:
        return sum(map(len, self.arrays))


@dataclass(frozen=True, eq=False)
class BucketedCache:
    """Image caches of one shape each, with their rows numbered through.

    folder: holds them all. size: px of a side of the square whose area no shape exceeds.
    """

    folder: Path
    size: int
    buckets: tuple[ImageCache, ...]

    def __len__(self) -> int:
        return sum(self.counts)

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """How many images there are of each shape."""
        return tuple(map(len, self.buckets))

    @cached_property
    def captions(self) -> list[list[str]]:
        """One or more wordings of each."""
        return [wordings for bucket in self.buckets for wordings in bucket.captions]

    @cached_property
    def people(self) -> list[People]:
        """The people of each, on the canvas of its image."""
        return [people for bucket in self.buckets for people in bucket.people]

    @property
    def images(self) -> StackedRows:
        """uint8 (h, w, 3) RGB each."""
        return StackedRows([bucket.images for bucket in self.buckets])

    def local(self, row: int) -> tuple[ImageCache, int]:
        """The bucket that holds this row, and its number there."""
        for bucket in self.buckets:
            if row < len(bucket):
                return bucket, row
            row -= len(bucket)
        raise IndexError(row)

    def canvas(self, row: int) -> Shape:
        """(width, height) px of that image."""
        bucket, place = self.local(row)
        return bucket.canvas(place)

    def mask(self, row: int) -> Any:
        """As `ImageCache.mask`."""
        bucket, place = self.local(row)
        return bucket.mask(place)

    def digest(self) -> str:
        """As `ImageCache.digest`."""
        digest = hashlib.sha256()
        for bucket in self.buckets:
            digest.update(f"{bucket.canvas(0)} {bucket.digest()}\n".encode())
        for shard in about_of(self.folder).get("shards", []):
            digest.update(f"{shard['sha256']}\n".encode())
        return digest.hexdigest()[:16]


def find_buckets(shards: Path, side: int, longest: float, step: int, workers: int = 1) -> BucketedCache:
    """The buckets of a folder of shards, beside them in `shards/buckets-SIDE-LONGEST-STEP`, built if need be.

    Every image goes to the bucket whose shape is nearest to its own and is cut to it with its people and its mask
    (`crop.cut_sample`). side, longest, step: see `bucket_shapes`.

    Raises:
        FileNotFoundError: `shards` holds no shards.
        ValueError: as of `image_cache.build_image_cache`, or `side` does not fit.
        DiskError: the disk is full.
    """
    if not any(shards.glob("*.tar")):
        raise FileNotFoundError(
            f"{shards}: buckets are made of shards, and here are none; name the folder that has them"
        )
    shapes = bucket_shapes(side, longest, step)
    out = shards / f"buckets-{side}-{longest:g}-{step}"
    if (out / "about.json").exists():
        refuse_changes(shards, out)
    else:
        with locked(out, "image buckets", wait=True):
            if not (out / "about.json").exists():  # another process may have built them meanwhile
                _build(shards, out, shapes, workers)
    names = about_of(out)["buckets"]
    return BucketedCache(out, side, tuple(open_image_cache(out / name) for name in names))


def _build(shards: Path, out: Path, shapes: Sequence[Shape], workers: int) -> None:
    records, total = shard_records(shards), expected_samples(shards)
    refuse_altered(shards, records)
    skipped: list[dict[str, Any]] = []
    samples = tqdm(read_undamaged(shards, skipped, workers), total=total, desc="buckets", dynamic_ncols=True)
    writers: dict[Shape, RowsWriter] = {}
    folders = {shape: out / f"{shape[0]}x{shape[1]}" for shape in shapes}
    try:
        with contextlib.ExitStack() as opened:
            for sample in samples:
                height, width = sample.image.shape[:2]
                shape = nearest_shape(shapes, (width, height))
                if shape not in writers:
                    folders[shape].mkdir(parents=True, exist_ok=True)
                    left = total - sum(writer.count for writer in writers.values())  # what is written has its room
                    writers[shape] = opened.enter_context(RowsWriter(folders[shape], left))
                writers[shape].add(cut_sample(sample, shape))
            for writer in writers.values():
                writer.finish()
    except OSError:
        for folder in folders.values():  # a full disk needs the room
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if skipped:
        note = damage_note(shards, skipped)
        if not writers:
            raise ValueError(note)
        print(f"humansd: note: {note}; {out / 'about.json'} has the list", file=sys.stderr)
    if not writers:
        raise ValueError(f"{shards}: no sample found; write some with `humansd data import`")
    used = [shape for shape in shapes if shape in writers]
    for shape in used:
        write_json(folders[shape] / "about.json", {"count": writers[shape].count, "size": list(shape)})
    about = {"buckets": [folders[shape].name for shape in used], "shards": records, "skipped": skipped}
    write_json(out / "about.json", about)
