"""Webdataset tar shards: written in parallel, resumable after a kill, the same bytes by any workers.

A data set is a folder of `shard-000000.tar`, ... and a `manifest.json` that lists the finished shards. A
shard is written under a temporary name, flushed to disk, renamed, and only then listed; so a kill at any
moment leaves a list of whole shards, and the same call goes on behind the last of them.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import io
import itertools
import json
import os
import re
import tarfile
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from humansd.core.digests import file_sha256
from humansd.core.disk import disk_errors
from humansd.core.lock import LockedError, locked
from humansd.core.workers import ordered_map
from humansd.data.sample import Sample, SampleError, decode_sample, encode_sample
from humansd.data.tar import Member, TarError, read_data, tar_members
from humansd.pose.checks import shown

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 64 << 20
MAX_SAMPLE_BYTES = 128 << 20
_FIELDS = {"version": int, "count": int, "per_shard": int, "settings": dict, "shards": list}
_ENTRY_FIELDS = {"name": str, "n": int, "bytes": int, "sha256": str}
TEMPORARY = ".writing-"


class ShardError(ValueError):
    """A shard or data set that cannot be used; the message names the file and the remedy."""


def write_shards(
    make: Callable[[int], Sample],
    count: int,
    out: Path | str,
    *,
    per_shard: int = 500,
    workers: int = 2,
    progress: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes samples make(0), ..., make(count - 1) to `out` and returns the manifest.

    make: must depend on nothing but the index, and be picklable when workers > 1.
    settings: JSON values that say what `make` makes; a folder begun with others is refused.
    Finished shards found in `out` are verified (sha256) and kept.
    Raises ShardError for a folder that holds something else, and what `make` raises.
    """
    if count < 1 or per_shard < 1 or workers < 1:
        raise ShardError(f"count, per_shard and workers must be 1 or more, not {count}, {per_shard}, {workers}")
    out = Path(out)
    with only_writer(out):
        manifest = _begin(out, {"count": count, "per_shard": per_shard, "settings": dict(settings or {})})
        todo = _unfinished(out, manifest)
        indices = [index for shard in todo for index in _indices(shard, count, per_shard)]
        with (
            tqdm(total=count, initial=count - len(indices), unit="img", disable=not progress) as bar,
            contextlib.closing(ordered_map(_Encode(make), indices, workers)) as encoded,
        ):
            # A maker that cannot make even one sample leaves no manifest that claims the folder.
            samples = itertools.chain(list(itertools.islice(encoded, 1)), encoded)
            write_manifest(out, manifest)
            keys: dict[str, Path] = {}
            for shard in todo:
                entry = _write_shard(out, shard, _indices(shard, count, per_shard), samples, keys, bar)
                manifest["shards"].append(entry)
                manifest["shards"].sort(key=lambda entry: entry["name"])
                write_manifest(out, manifest)
    return manifest


def read_shards(source: Path | str, skip: Container[str] = ()) -> Iterator[Sample]:
    """Samples in stored order from a data set folder, one tar file, or a glob of tar files.

    Nothing is unpacked to disk. Samples whose key is in `skip` are passed over. Each shard that a manifest lists is
    compared with its sha256 there before it is read.

    Raises:
        ShardError: naming the file that is missing, cut short, broken or not the one that was written, the two of
            which samples have one key, or the folder whose writing was not finished.
    """
    keys: dict[str, Path] = {}
    for path, entry in _sized_shards(source).items():
        check_sha256(path, entry)
        for members in read_members(path):
            if members["__key__"] in skip:
                continue
            try:
                sample = decode_sample(members)
            except SampleError as error:
                raise ShardError(f"{path}: {error}") from None
            if sample.key in keys:
                raise ShardError(f"{path}: {twice(sample.key, keys[sample.key])}")
            keys[sample.key] = path
            yield sample


def twice(key: str, other: Path) -> str:
    """What is wrong with a second sample of one key, and what to do."""
    return (
        f"sample {key!r}: there is another of this key in {other}; keys must differ, "
        "so take one of these shards away, or write their samples under other keys"
    )


def check_sha256(path: Path, entry: Mapping[str, Any]) -> None:
    """ShardError where the file is not the one of its `entry` in a manifest ({}: there is none)."""
    if entry and file_sha256(path) != entry["sha256"]:
        raise ShardError(altered(path))


def altered(path: Path) -> str:
    """What is wrong with a shard of another sha256, and what to do."""
    return (
        f"{path}: its sha256 is not the one in {MANIFEST}: it was changed or damaged after it was written; "
        f"make or fetch it again, or, if the change is meant, delete {MANIFEST}"
    )


def count_samples(source: Path | str) -> int:
    """Number of samples of a data set folder, tar file or glob; from the manifest where there is one."""
    listed = _sized_shards(source)
    return sum(entry["n"] if entry else sum(1 for _ in read_members(path)) for path, entry in listed.items())


def shard_files(source: Path | str) -> list[Path]:
    """The tar files of a data set folder (as its manifest lists them), of one file or of a glob, sorted."""
    return list(_sized_shards(source))


def _sized_shards(source: Path | str) -> dict[Path, dict[str, Any]]:
    """As `listed_shards`, all of them there and as large as their manifest says."""
    listed = listed_shards(source)
    for path, entry in listed.items():
        if entry and (not path.is_file() or path.stat().st_size != entry["bytes"]):
            raise ShardError(f"{path}: missing or of the wrong size; delete it and make it again")
    return listed


def listed_shards(source: Path | str) -> dict[Path, dict[str, Any]]:
    """The tar files of a folder, of one file or of a glob, whole or not, each with its entry in the manifest beside it
    ({} without one)."""
    folder = Path(source)
    if (folder / MANIFEST).is_file():
        manifest = read_manifest(folder)
        done = sum(entry["n"] for entry in manifest["shards"])
        if done < manifest["count"]:
            raise ShardError(
                f"{folder}: unfinished, {done} of {manifest['count']} samples; run the command that made it "
                f"again, or read what is there as '{folder}/shard-*.tar'"
            )
        return {folder / entry["name"]: entry for entry in manifest["shards"]}
    if folder.is_file():
        files = [folder]
    else:
        files = sorted(folder.glob("*.tar")) if folder.is_dir() else sorted(map(Path, glob.glob(str(source))))
    if not files:
        raise ShardError(f"{source}: no shards there; name a folder of .tar files, one .tar file, or a glob")
    known = {parent: _entries(parent) for parent in {file.parent for file in files}}
    return {file: known[file.parent].get(file.name, {}) for file in files}


def _entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Name of a shard -> its entry in the manifest of `folder`, if there is one."""
    return {e["name"]: e for e in read_manifest(folder)["shards"]} if (folder / MANIFEST).is_file() else {}


def read_members(path: Path) -> Iterator[dict[str, Any]]:
    """The raw members {"__key__": key, "png": bytes, ...} of each sample of one shard, in stored order."""
    if not path.is_file():
        raise ShardError(f"{path}: is no file; name a folder of .tar files, one .tar file, or a glob")
    try:
        yield from samples_of(path, None)
    except (TarError, OSError) as error:
        raise ShardError(f"{path}: {error}; make or fetch this tar file again") from None


def samples_of(path: Path, damage: list[str] | None) -> Iterator[dict[str, Any]]:
    """The members of each sample; with `damage`, which gains what is wrong, past what is damaged.

    A sample ends where another key begins, or where one of its members comes again.

    Raises:
        TarError: damage, without a list for it; OSError: the file cannot be read.
    """
    sample: dict[str, Any] = {}
    taken = 0  # bytes of the sample
    with path.open("rb") as stream:
        for member in tar_members(stream, damage):
            problem = member if isinstance(member, TarError) else None
            if isinstance(member, Member):
                key, _, name = os.path.basename(member.name).partition(".")
                if sample and (key != sample["__key__"] or name.lower() in sample):
                    yield sample
                    sample, taken = {}, 0
                taken += member.size
                if taken > MAX_SAMPLE_BYTES:
                    problem = TarError(f"sample {key!r} has more than {MAX_SAMPLE_BYTES} bytes")
                else:
                    sample |= {"__key__": key, name.lower(): read_data(stream, member)}
            if problem and damage is None:
                raise problem
            if problem and damage is not None:
                damage.append(str(problem))
    if sample:
        yield sample


class _Encode:
    """Picklable: index -> (key, members) of the sample."""

    def __init__(self, make: Callable[[int], Sample]) -> None:
        self.make = make

    def __call__(self, index: int) -> tuple[str, dict[str, bytes]]:
        sample = self.make(index)
        return sample.key, encode_sample(sample)


def _indices(shard: int, count: int, per_shard: int) -> range:
    return range(shard * per_shard, min(count, (shard + 1) * per_shard))


def shard_name(shard: int) -> str:
    """File name of the shard of this number."""
    return f"shard-{shard:06d}.tar"


def _begin(out: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """The manifest to go on with: the one in `out` if it was begun with the same settings, else a new one."""
    wanted = json.loads(json.dumps(wanted))  # tuples become lists, as they will be when read back
    for leftover in out.glob(f"{TEMPORARY}*"):
        leftover.unlink()
    if not (out / MANIFEST).exists():
        if any(out.glob("*.tar")):
            raise ShardError(f"{out}: holds .tar files but no {MANIFEST}; choose an empty folder")
        return {"version": 1, **wanted, "shards": []}
    manifest = read_manifest(out)
    then, now = _flat(manifest), _flat(wanted)
    for name in [*now, *then]:
        if then.get(name) != now.get(name):
            raise ShardError(
                f"{out / MANIFEST}: begun with {name} {then.get(name)}, now asked for {now.get(name)}; "
                "choose another folder, or what it was begun with"
            )
    return manifest


def _flat(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {"count": manifest["count"], "per_shard": manifest["per_shard"], **manifest["settings"]}


def _unfinished(out: Path, manifest: dict[str, Any]) -> list[int]:
    """Numbers of the shards still to write; drops listed shards that are gone, refuses changed ones."""
    kept = []
    for entry in manifest["shards"]:
        path = out / entry["name"]
        if not path.exists():
            continue
        if file_sha256(path) != entry["sha256"]:
            raise ShardError(f"{path}: its sha256 is not the one written; delete it, then run this again")
        kept.append(entry)
    manifest["shards"] = kept
    names = {entry["name"] for entry in kept}
    total = -(-manifest["count"] // manifest["per_shard"])
    return [shard for shard in range(total) if shard_name(shard) not in names]


def _write_shard(
    out: Path,
    shard: int,
    indices: range,
    samples: Iterator[tuple[str, dict[str, bytes]]],
    keys: dict[str, Path],
    bar: tqdm,
) -> dict[str, Any]:
    """Writes the next `samples` as one shard and returns its manifest entry; `keys` gains theirs."""
    temporary, final = out / f"{TEMPORARY}{shard_name(shard)}", out / shard_name(shard)
    done, taken = 0, 0

    def needed() -> int:
        """For all samples that are missing."""
        return int(taken // max(1, done) * (bar.total - bar.n + done))

    try:
        with disk_errors(final, needed), temporary.open("w+b") as stream:
            with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for _ in indices:
                    key, members = next(samples)
                    if key in keys:
                        raise ShardError(f"{final}: {twice(key, keys[key])}")
                    keys[key] = final
                    done += 1
                    taken += sum(1024 + len(data) for data in members.values())
                    add_members(tar, key, members)
                    bar.update()
            flush(stream)
            stream.seek(0)
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            size = stream.tell()
        rename_durably(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)  # a full disk needs the room
    return {"name": final.name, "n": len(indices), "bytes": size, "sha256": digest}


def add_members(tar: tarfile.TarFile, key: str, members: Mapping[str, bytes]) -> None:
    """Appends members under headers that hold nothing of this machine or moment."""
    for name, data in members.items():
        info = tarfile.TarInfo(f"{key}.{name}")
        info.size, info.mode = len(data), 0o644
        tar.addfile(info, io.BytesIO(data))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a data set, each of its fields of the right type; ShardError naming it otherwise."""
    path = folder / MANIFEST
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_MANIFEST_BYTES + 1)
        if len(text) > MAX_MANIFEST_BYTES:
            raise ValueError(f"more than {MAX_MANIFEST_BYTES} bytes")
        manifest = json.loads(text)
        _check_fields(manifest, _FIELDS)
        if manifest["version"] != 1:
            raise ValueError(f"version {shown(manifest['version'])} is not 1")
        for entry in manifest["shards"]:
            _check_fields(entry, _ENTRY_FIELDS)
            if not re.fullmatch(r"[\w-]+\.tar", entry["name"]):
                raise ValueError(f"{shown(entry['name'])} is not the name of a shard")
    except (ValueError, RecursionError, OSError) as error:
        raise ShardError(f"{path}: not a readable manifest ({error}); make the data set again") from None
    return dict(manifest)


def _check_fields(record: Any, fields: Mapping[str, type]) -> None:
    if not isinstance(record, dict):
        raise ValueError(f"{shown(record)} is no record")
    if missing := [name for name in fields if name not in record]:
        raise ValueError(f"lacks {', '.join(missing)}")
    for name, kind in fields.items():
        value = record[name]
        if type(value) is not kind or (isinstance(value, int) and value < 0):
            raise ValueError(f"{name} is {shown(value)}")


def write_manifest(out: Path, manifest: Mapping[str, Any]) -> None:
    """Replaces the manifest of `out`, on disk when this returns; DiskError where there is no room."""
    temporary = out / f"{TEMPORARY}{MANIFEST}"
    text = json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n"
    try:
        with disk_errors(out / MANIFEST, lambda: len(text)), temporary.open("wb") as stream:
            stream.write(text)
            flush(stream)
        rename_durably(temporary, out / MANIFEST)
    finally:
        temporary.unlink(missing_ok=True)


def flush(stream: BinaryIO | Any) -> None:
    """What was written is on the disk when this returns."""
    stream.flush()
    os.fsync(stream.fileno())


def rename_durably(temporary: Path, final: Path) -> None:
    """Renames a flushed file; the new name is on the disk when this returns."""
    os.replace(temporary, final)
    if os.name == "posix":  # elsewhere a folder cannot be opened to be flushed
        folder = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """Holds `out` for this writer; ShardError where another process writes there."""
    try:
        with locked(out, "shards"):
            yield
    except LockedError as error:
        raise ShardError(str(error)) from None
