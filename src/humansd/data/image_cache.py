"""An image pack: the samples of shards laid out for training, memory-mapped, one file per kind.

`pictures.npy` (n, s, s, 3) uint8, `samples.jsonl` (captions, scene, key points), `masks.npy` (n, s, s / 8) bits, where
people are, if any sample says so, and `about.json` written last, so a folder with it is complete. It says which shards
were read (`shards`) and what of them was damaged (`skipped`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from humansd.core.files import write_json
from humansd.core.lock import locked
from humansd.data.crop import cut_sample
from humansd.data.image_rows import ROW_FILES, RowsWriter
from humansd.data.salvage import (
    changed_shard,
    damage_note,
    expected_samples,
    read_undamaged,
    refuse_altered,
    shard_records,
    whole_members,
)
from humansd.data.sample import IMAGE_MEMBERS, Sample
from humansd.data.shards import listed_shards
from humansd.pose.image_sizes import image_size
from humansd.pose.people import People

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ImageCache:
    """n images of one shape with what is known of them; row i of everything belongs together."""

    folder: Path  # of the files
    images: np.ndarray  # (n, h, w, 3) uint8 RGB; square but in a bucket
    captions: list[list[str]]  # one or more wordings each
    people: list[People]  # on the canvas of their image
    masks: np.ndarray | None = None  # (n, h, w / 8) uint8, eight pixels each
    masked: tuple[bool, ...] = ()  # which rows have one

    def __len__(self) -> int:
        return len(self.images)

    def digest(self) -> str:
        """A short digest of captions, key points and, where they are on record, the shards that were read, which
        tells one set of images from another."""
        digest = hashlib.sha256((self.folder / "samples.jsonl").read_bytes())
        for shard in about_of(self.folder).get("shards", []):
            digest.update(f"{shard['sha256']}\n".encode())
        return digest.hexdigest()[:16]

    def mask(self, row: int) -> NDArray[np.bool_] | None:
        """(h, w) where that row's people are, as its sample says; None where it does not."""
        if self.masks is None or not self.masked[row]:
            return None
        return np.unpackbits(self.masks[row], axis=1, count=self.images.shape[2]).astype(bool)

    @property
    def size(self) -> int:
        return int(self.images.shape[1])

    @property
    def counts(self) -> tuple[int, ...]:
        """How many images there are of each shape: of one."""
        return (len(self),)

    def canvas(self, row: int) -> tuple[int, int]:
        """(width, height) px of that image."""
        return int(self.images.shape[2]), int(self.images.shape[1])

    def local(self, row: int) -> tuple[ImageCache, int]:
        """The cache of images of one shape that holds this row, and its number there."""
        return self, row


def build_image_cache(shards: Path, out: Path, workers: int = 1, size: int = 0) -> ImageCache:
    """Reads every sample of `shards` once into the pack `out`; returns at once if `out` is already complete.

    size: px of a side to which all are cut, image, people and mask alike, never stretched (`crop.cut_sample`); 0: they
    are square and of one size, and stay as they are.

    What is damaged is left out, with a note on stderr and on record in `about.json`. Where another process builds the
    same pack, this one waits for it. Images are decoded on `workers` processes.

    Raises:
        ValueError: nothing can be read; an image that is not square or not of the first one's size; a shard is whole
            but not the one of its manifest; or one was changed, added or removed since `out` was made.
        DiskError: the disk is full.
    """
    if not (out / "about.json").exists():
        with locked(out, "an image pack", wait=True):
            if not (out / "about.json").exists():  # another process may have built it meanwhile
                _build(shards, out, workers, size)
                return open_image_cache(out)
    refuse_changes(shards, out)
    return open_image_cache(out)


def _build(shards: Path, out: Path, workers: int, side: int) -> None:
    records, total = shard_records(shards), expected_samples(shards)
    refuse_altered(shards, records)
    skipped: list[dict[str, Any]] = []
    found = read_undamaged(shards, skipped, workers)
    if side:
        found = (cut_sample(sample, (side, side)) for sample in found)
    samples = tqdm(found, total=total, desc="pack", dynamic_ncols=True)
    try:
        count, size = _write_rows(shards, out, samples, total)
    except OSError:
        for name in ROW_FILES:
            (out / name).unlink(missing_ok=True)  # a full disk needs the room
        raise
    if skipped:
        note = damage_note(shards, skipped)
        if not count:
            raise ValueError(note)
        log.warning("%s; %s has the list", note, out / "about.json")
    if not count:
        raise ValueError(f"{shards}: no sample found; write some with `humansd data atelier`")
    write_json(out / "about.json", {"count": count, "size": size, "shards": records, "skipped": skipped})


def _write_rows(shards: Path, out: Path, samples: Iterable[Sample], total: int) -> tuple[int, int]:
    """Writes images and lines of all samples, about `total`; how many there were, and their side in pixels."""
    with RowsWriter(out, total) as rows:
        for sample in samples:
            shape = rows.shape or sample.image.shape
            if sample.image.shape != shape or shape[0] != shape[1]:
                raise ValueError(
                    f"{shards}: image {sample.key} is {sample.image.shape}, the pack {shape}; "
                    "a pack needs square images of one size; say to which side all are cut, such as "
                    "--set image_size=512"
                )
            rows.add(sample)
        rows.finish()
    return rows.count, rows.shape[0] if rows.shape else 0


def refuse_changes(shards: Path, out: Path) -> None:
    """For the image cache `out` of `shards`: ValueError where the shards are not those on record; a pack without a record is as good as it was."""
    records = about_of(out).get("shards")
    made_ns = (out / "about.json").stat().st_mtime_ns
    changed = None if records is None else changed_shard(shards, records, made_ns)
    if changed:
        raise ValueError(
            f"{changed} since {out} was made of these shards; put it back, or delete {out} to read them again and use "
            "another --out for a new run"
        )


def about_of(folder: Path) -> dict[str, Any]:
    """What an image cache says of itself; ValueError where it cannot be read."""
    with _readable(folder):
        return dict(json.loads((folder / "about.json").read_text()))


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Says of a pack that cannot be read what to do about it."""
    try:
        yield
    except FileNotFoundError as error:
        raise ValueError(f"{folder}: the pack lacks {error.filename}; delete {folder} to make it again") from None
    except (ValueError, TypeError, KeyError, EOFError, RecursionError) as error:
        raise ValueError(f"{folder}: the pack is damaged ({error}); delete {folder} to make it again") from None


def find_image_cache(folder: Path, size: int = 0, model_size: int = 0) -> ImageCache:
    """The pack in `folder`; for a folder of shards the pack beside them in `folder/pack`, built if need be.

    size: px of a side to which all images are cut; the pack is then `folder/pack-SIZE`. 0: where they are square and of
    one size, as they are, else cut to `model_size`, if that is not 0.

    Raises:
        FileNotFoundError: `folder` holds neither.
        ValueError: as of `build_image_cache`; above all, a shard is not what it was when the pack was made; or `folder`
            is a pack of another size.
    """
    if (folder / "about.json").exists() or not any(folder.glob("*.tar")):
        found = open_image_cache(folder)
        if size not in (0, found.size):
            raise ValueError(f"image_size = {size}: {folder} is a pack of {found.size} px; name the shards instead")
        return found
    if not size and model_size and not (folder / "pack" / "about.json").exists() and not _of_one_square(folder):
        size = model_size
    return build_image_cache(folder, folder / (f"pack-{size}" if size else "pack"), size=size)


def _of_one_square(shards: Path) -> bool:
    """Whether all images that can be read are square and of one size; only their headers are looked at."""
    known: tuple[int, int] | None = None
    for path in listed_shards(shards):
        for members in whole_members(path, []):
            data = next((members[name] for name in IMAGE_MEMBERS if name in members), b"")
            size = image_size(data)
            if size is not None and (size[0] != size[1] or size != (known or size)):
                return False
            known = known or size
    return True


def open_image_cache(folder: Path) -> ImageCache:
    """Opens a complete pack; the images stay on disk and are read as needed.

    Raises:
        FileNotFoundError: `folder` holds no complete pack.
        ValueError: a file of the pack is damaged.
    """
    if not (folder / "about.json").exists():
        raise FileNotFoundError(
            f"{folder}: neither a complete image pack nor a folder of shards; make some with `humansd data atelier`"
        )
    with _readable(folder):
        records = [json.loads(line) for line in (folder / "samples.jsonl").read_text().split("\n") if line]
        image_cache = ImageCache(
            folder=folder,
            images=np.load(folder / "pictures.npy", mmap_mode="r"),
            captions=[record["captions"] for record in records],
            people=[People.from_json(record["people"]) for record in records],
            masks=np.load(folder / "masks.npy", mmap_mode="r") if (folder / "masks.npy").exists() else None,
            masked=tuple(record.get("masked", False) for record in records),
        )
        if not len(image_cache.images) == len(records) == about_of(folder)["count"]:
            raise ValueError(f"{len(image_cache.images)} images and {len(records)} lines of samples.jsonl")
    return image_cache


def to_unit(images: np.ndarray) -> torch.Tensor:
    """uint8 (n, h, w, 3) RGB -> fp32 (n, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
