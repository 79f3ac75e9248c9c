"""True pairs: two samples of one scene in which the people's poses differ and nothing else does.

The two lie side by side as ordinary samples. `extras["pair"]` names the pair and the side, "a" or "b"; of side "a",
`extras["changes"]` holds the mask of what may differ, packed.
"""

from __future__ import annotations

import base64
import binascii
import json
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from humansd.data.image_cache import ImageCache
from humansd.data.sample import MAX_SIDE_PX, Sample, SampleError
from humansd.data.shards import read_shards

SIDES = ("a", "b")


@dataclass(frozen=True, eq=False)
class Pair:
    """Two samples of one scene; `changes` (h, w) is where they may differ."""

    first: Sample
    second: Sample
    changes: NDArray[np.bool_]


def pack_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """A mask (h, w) as JSON values: its size, and its bits, zipped, in base64."""
    bits = zlib.compress(np.packbits(mask).tobytes(), 9)
    return {"size": [int(mask.shape[1]), int(mask.shape[0])], "bits": base64.b64encode(bits).decode()}


def unpack_mask(packed: Any) -> NDArray[np.bool_]:
    """The inverse of `pack_mask`. ValueError for anything else; no more is unpacked than the size asks for."""
    try:
        width, height = (int(side) for side in packed["size"])
        if not 0 < min(width, height) <= max(width, height) <= MAX_SIDE_PX:
            raise ValueError(f"{width} x {height} px")
        wanted = (width * height + 7) // 8
        data = zlib.decompressobj().decompress(base64.b64decode(packed["bits"], validate=True), wanted)
        bits = np.frombuffer(data, np.uint8)
        if len(bits) != wanted:
            raise ValueError(f"{len(bits)} bytes for {width} x {height} px")
    except (TypeError, KeyError, ValueError, binascii.Error, zlib.error) as error:
        raise ValueError(
            f"no packed mask ({error}); write the pairs anew with `humansd data atelier --pairs`"
        ) from None
    return np.unpackbits(bits, count=width * height).reshape(height, width).astype(bool)


def side_of(extras: Mapping[str, Any]) -> tuple[str, str] | None:
    """The pair's name and the side of a sample with these extras; None for one that belongs to no pair."""
    known = extras.get("pair")
    if not isinstance(known, dict) or not isinstance(known.get("name"), str) or known.get("side") not in SIDES:
        return None
    return known["name"], known["side"]


def read_pairs(source: Path | str) -> Iterator[Pair]:
    """The pairs of shards, in stored order. Left out, with a UserWarning that counts them, is a sample whose other side
    is not its neighbor, and a pair without a mask that can be read.

    Raises:
        ShardError: as `read_shards`.
    """
    before: Sample | None = None
    left_out: list[str] = []
    for sample in read_shards(source):
        if before is None or not _belong(before, sample):
            left_out += [] if before is None else [f"sample {before.key!r}: the other side of its pair is missing"]
            before = sample
            continue
        try:
            yield Pair(before, sample, _changes(before))
        except SampleError as error:
            left_out.append(str(error))
        before = None
    left_out += [] if before is None else [f"sample {before.key!r}: the other side of its pair is missing"]
    if left_out:
        warnings.warn(f"{source}: {len(left_out)} left out; the first: {left_out[0]}", UserWarning, stacklevel=2)


def partners(image_cache: ImageCache) -> dict[int, int]:
    """Row of a side "a" -> row of its side "b", of the pairs whose two sides are both in the cache."""
    rows: dict[str, dict[str, int]] = {}
    for row, extras in enumerate(_extras(image_cache)):
        known = side_of(extras)
        if known is not None:
            rows.setdefault(known[0], {})[known[1]] = row
    return {sides["a"]: sides["b"] for sides in rows.values() if set(sides) == set(SIDES)}


def cached_changes(image_cache: ImageCache) -> dict[int, NDArray[np.bool_]]:
    """Row of a side "a" -> its mask (s, s) at the cache's size; a mask of another shape, or none, is left out."""
    found = {}
    for row, extras in enumerate(_extras(image_cache)):
        try:
            mask = unpack_mask(extras.get("changes"))
        except ValueError:
            continue
        if mask.shape[0] == mask.shape[1]:
            found[row] = resized_mask(mask, (image_cache.size, image_cache.size))
    return found


def resized_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask (h, w) at `size` = (width, height); a pixel of which any part may change, may."""
    if (mask.shape[1], mask.shape[0]) == size:
        return mask
    share = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(share > 0)


def _belong(first: Sample, second: Sample) -> bool:
    one, other = side_of(first.extras), side_of(second.extras)
    return one is not None and other is not None and one[0] == other[0] and (one[1], other[1]) == SIDES


def _changes(sample: Sample) -> NDArray[np.bool_]:
    try:
        mask = unpack_mask(sample.extras.get("changes"))
    except ValueError as error:
        raise SampleError(f"sample {sample.key!r}: extras['changes']: {error}") from None
    return resized_mask(mask, (sample.image.shape[1], sample.image.shape[0]))


def _extras(image_cache: ImageCache) -> Iterator[dict[str, Any]]:
    with (image_cache.folder / "samples.jsonl").open() as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line).get("extras") or {}
