"""Shards of which some are damaged: what can be read of them, what cannot, and whether they changed since."""

from __future__ import annotations

import hashlib
import itertools
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from humansd.data.sample import Sample, SampleError, decode_sample
from humansd.data.shards import MAX_MEMBER_BYTES, listed_shards
from humansd.pose.errors import PoseError


def read_undamaged(source: Path | str, skipped: list[dict[str, Any]]) -> Iterator[Sample]:
    """The samples of `source` (as of `read_shards`) that can be read, in stored order.

    For each damaged shard `skipped` gains {"file", "reason": the first trouble, "samples": how many are missing; None
    where nobody knows}. Behind a damaged header reading goes on at the next sound one.

    Raises:
        ShardError: there are no shards, their manifest is broken, or their writing was not finished.
    """
    for path, entry in listed_shards(source).items():
        damage: list[str] = []  # of the file
        broken: list[str] = []  # of single samples
        read = 0
        for members in _whole_members(path, damage):
            try:
                sample = decode_sample(members)
            except (SampleError, PoseError) as error:
                broken.append(str(error))
                continue
            read += 1
            yield sample
        missing = max(0, entry["n"] - read) if entry else None if damage else len(broken)
        if missing != 0:
            reason = (damage + broken + ["it holds fewer samples than its manifest says"])[0]
            skipped.append({"file": path.name, "reason": reason, "samples": missing})


def expected_samples(source: Path | str) -> int:
    """How many samples `source` holds at most: as its manifest says, else as the sound headers do."""
    return sum(
        entry["n"] if entry else sum(1 for _ in _whole_members(path, []))
        for path, entry in listed_shards(source).items()
    )


def damage_note(source: Path | str, skipped: Sequence[dict[str, Any]]) -> str:
    """One sentence that says what `read_undamaged` left out."""
    known = sum(one["samples"] or 0 for one in skipped)
    unknown = any(one["samples"] is None for one in skipped)
    count = str(known) if not unknown else f"{known} or more" if known else "some"
    first = skipped[0]
    more = f" and {len(skipped) - 1} more" if len(skipped) > 1 else ""
    return (
        f"{source}: {count} samples cannot be read and are left out "
        f"(damaged: {first['file']}: {first['reason']}{more}); make or fetch these shards again"
    )


def shard_records(source: Path | str) -> list[dict[str, Any]]:
    """What tells the shards of `source` from others: name, bytes and sha256 of each; None for a file that is gone."""
    return [
        {"name": path.name, "bytes": _size(path), "sha256": _sha256(path) if path.is_file() else None}
        for path in listed_shards(source)
    ]


def changed_shard(source: Path | str, records: Sequence[dict[str, Any]]) -> str | None:
    """What is no longer as `shard_records` found it, as "FILE was added"; None where nothing changed.

    Compares names, sizes and the manifest's sha256. A file is hashed again only where the manifest differs: then it
    was damaged from the start, or is another one now.
    """
    then = {record["name"]: record for record in records}
    now = {path.name: (path, entry) for path, entry in listed_shards(source).items()}
    for name in sorted(then.keys() | now.keys()):
        if name not in then or name not in now:
            return f"{Path(source) / name} was {'added' if name in now else 'removed'}"
        (path, entry), record = now[name], then[name]
        same = _size(path) == record["bytes"]
        if same and path.is_file() and entry.get("sha256", record["sha256"]) != record["sha256"]:
            same = _sha256(path) == record["sha256"]
        if not same:
            return f"{path} was changed"
    return None


def _whole_members(path: Path, damage: list[str]) -> Iterator[dict[str, Any]]:
    """As `shards.read_members`, past what is damaged; `damage` gains what is wrong with the file."""
    for key, group in itertools.groupby(_members(path, damage), key=lambda member: member[0]):
        yield {"__key__": key, **{name: data for _, name, data in group}}


def _members(path: Path, damage: list[str]) -> Iterator[tuple[str, str, bytes]]:
    """(key, name, data) of each whole member."""
    end = 0
    try:
        # ignore_zeros: behind a header that is none, the next one is looked for
        with path.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:", ignore_zeros=True) as tar:
            for info in tar:
                if info.offset != end:
                    damage.append(f"damaged at byte {end}")
                end = info.offset_data + (-(-info.size // 512) * 512 if info.isreg() else 0)
                if info.size > MAX_MEMBER_BYTES:
                    damage.append(f"{info.name} has {info.size} bytes; at most {MAX_MEMBER_BYTES}")
                elif info.isreg():
                    stream.seek(info.offset_data)
                    key, _, name = Path(info.name).name.partition(".")
                    data = stream.read(info.size)
                    if len(data) < info.size:
                        raise tarfile.ReadError(f"cut short within {info.name}")
                    yield key, name.lower(), data
            stream.seek(end)
            if stream.read(512) != bytes(512):
                raise tarfile.ReadError(f"damaged or cut short at byte {end}")
    except (tarfile.TarError, EOFError, OSError) as error:
        damage.append(f"broken tar file ({error})")


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
