"""Shards of which some are damaged: what can be read of them, what cannot, and whether they changed since."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from humansd.core.digests import file_sha256
from humansd.core.workers import ordered_map
from humansd.data.sample import Sample, SampleError, check_headers, decode_sample
from humansd.data.shards import ShardError, altered, listed_shards, read_members, samples_of, shard_files, twice
from humansd.data.tar import TarError


def read_undamaged(source: Path | str, skipped: list[dict[str, Any]], workers: int = 1) -> Iterator[Sample]:
    """The samples of `source` (as of `read_shards`) that can be read, in stored order, decoded on `workers` processes.

    In the end `skipped` has for each damaged shard {"file", "reason": the first trouble, "samples": how many are
    missing; None where nobody knows}. Behind a damaged header reading goes on at the next sound one. Of samples of one
    key the first is read.

    Raises:
        ShardError: there are no shards, their manifest is broken, or their writing was not finished.
    """
    keys: dict[str, Path] = {}
    listed = listed_shards(source)
    damage: dict[Path, list[str]] = {path: [] for path in listed}  # of the files
    broken: dict[Path, list[str]] = {path: [] for path in listed}  # of single samples
    read = dict.fromkeys(listed, 0)
    members = ((path, one) for path in listed for one in whole_members(path, damage[path]))
    with contextlib.closing(ordered_map(_decoded, members, workers)) as decoded:
        for path, sample in decoded:
            if isinstance(sample, Sample) and sample.key in keys:
                sample = twice(sample.key, keys[sample.key])
            if isinstance(sample, str):
                broken[path].append(sample)
                continue
            keys[sample.key] = path
            read[path] += 1
            yield sample
    for path, entry in listed.items():
        missing = max(0, entry["n"] - read[path]) if entry else None if damage[path] else len(broken[path])
        if missing != 0:
            reason = (damage[path] + broken[path] + ["it holds fewer samples than its manifest says"])[0]
            skipped.append({"file": path.name, "reason": reason, "samples": missing})


def _decoded(found: tuple[Path, dict[str, Any]]) -> tuple[Path, Sample | str]:
    """The sample of these members of a file, or what is wrong with it."""
    path, members = found
    try:
        return path, decode_sample(members)
    except SampleError as error:
        return path, str(error)


def refuse_altered(source: Path | str, records: Sequence[dict[str, Any]]) -> None:
    """ShardError where a shard of these `shard_records` is not the one of its manifest and yet whole.

    What is damaged shows, and is left out sample by sample. What was overwritten, as a caption in place, does not.
    """
    entries = {path.name: (path, entry) for path, entry in listed_shards(source).items()}
    for record in records:
        path, entry = entries[record["name"]]
        if entry and record["sha256"] not in (None, entry["sha256"]):
            damage: list[dict[str, Any]] = []
            if sum(1 for _ in read_undamaged(path, damage)) >= entry["n"]:
                raise ShardError(altered(path))


def expected_samples(source: Path | str) -> int:
    """How many samples `source` holds at most: as its manifest says, else as the sound headers do."""
    return sum(
        entry["n"] if entry else sum(1 for _ in whole_members(path, []))
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
        {"name": path.name, "bytes": _size(path), "sha256": file_sha256(path) if path.is_file() else None}
        for path in listed_shards(source)
    ]


def changed_shard(source: Path | str, records: Sequence[dict[str, Any]], since_ns: int) -> str | None:
    """What is no longer as `shard_records` found it, as "FILE was added"; None where nothing changed.

    Compares names, sizes and the manifest's sha256. A file is hashed again only where the manifest differs (then it
    was damaged from the start, or is another one now) or the file was written to after `since_ns` (of st_mtime_ns).
    """
    then = {record["name"]: record for record in records}
    now = {path.name: (path, entry) for path, entry in listed_shards(source).items()}
    for name in sorted(then.keys() | now.keys()):
        if name not in then or name not in now:
            return f"{Path(source) / name} was {'added' if name in now else 'removed'}"
        (path, entry), record = now[name], then[name]
        same = _size(path) == record["bytes"]
        if same and path.is_file():
            doubt = entry.get("sha256", record["sha256"]) != record["sha256"] or path.stat().st_mtime_ns > since_ns
            same = not doubt or file_sha256(path) == record["sha256"]
        if not same:
            return f"{path} was changed"
    return None


def whole_members(path: Path, damage: list[str]) -> Iterator[dict[str, Any]]:
    """As `shards.read_members`, past what is damaged; `damage` gains what is wrong with the file."""
    if path.exists() and not path.is_file():
        damage.append("is no file")
        return
    try:
        yield from samples_of(path, damage)
    except (TarError, OSError) as error:
        damage.append(f"broken tar file ({error})")


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def sample_faults(source: Path | str, limit: int = 0) -> tuple[int, dict[str, str]]:
    """How many samples of `source` can be used as far as their headers tell, and key -> what is wrong with the others.

    Decodes no image. limit: the first so many that can be used; 0 = all. Raises ShardError as `read_shards`.
    """
    sound, faults = 0, {}
    for path in shard_files(source):
        for members in read_members(path):
            try:
                check_headers(members)
            except SampleError as error:
                faults[members["__key__"]] = f"{path.name}: {error}"
                continue
            sound += 1
            if sound == limit:
                return sound, faults
    return sound, faults
