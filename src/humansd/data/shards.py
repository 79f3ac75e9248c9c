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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from humansd.data.sample import Sample, SampleError, decode_sample, encode_sample
from humansd.data.workers import ordered_map
from humansd.pose.errors import PoseError

MANIFEST = "manifest.json"
MAX_MEMBER_BYTES = 64 << 20
_FIELDS = ("version", "count", "per_shard", "settings", "shards")
_ENTRY_FIELDS = ("name", "n", "bytes", "sha256")
_TEMPORARY = ".writing-"


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
    out.mkdir(parents=True, exist_ok=True)
    with _only_writer(out):
        manifest = _begin(out, {"count": count, "per_shard": per_shard, "settings": dict(settings or {})})
        todo = _unfinished(out, manifest)
        indices = [index for shard in todo for index in _indices(shard, count, per_shard)]
        with (
            tqdm(total=count, initial=count - len(indices), unit="img", disable=not progress) as bar,
            contextlib.closing(ordered_map(_Encode(make), indices, workers)) as encoded,
        ):
            # A maker that cannot make even one sample leaves no manifest that claims the folder.
            samples = itertools.chain(list(itertools.islice(encoded, 1)), encoded)
            _write_manifest(out, manifest)
            for shard in todo:
                entry = _write_shard(out, shard, _indices(shard, count, per_shard), samples, bar)
                manifest["shards"].append(entry)
                manifest["shards"].sort(key=lambda entry: entry["name"])
                _write_manifest(out, manifest)
    return manifest


def read_shards(source: Path | str) -> Iterator[Sample]:
    """Samples in stored order from a data set folder, one tar file, or a glob of tar files.

    Nothing is unpacked to disk. Raises ShardError naming the file that is missing, cut short or broken, and
    for a folder whose writing was not finished.
    """
    for path in shard_files(source):
        for members in read_members(path):
            try:
                yield decode_sample(members)
            except (SampleError, PoseError) as error:
                raise ShardError(f"{path}: {error}") from None


def count_samples(source: Path | str) -> int:
    """Number of samples of a data set folder, tar file or glob; from the manifest where there is one."""
    if (Path(source) / MANIFEST).is_file():
        shard_files(source)
        return sum(entry["n"] for entry in _read_manifest(Path(source))["shards"])
    return sum(1 for path in shard_files(source) for _ in read_members(path))


def shard_files(source: Path | str) -> list[Path]:
    """The tar files of a data set folder (as its manifest lists them), of one file or of a glob, sorted."""
    listed = listed_shards(source)
    for path, entry in listed.items():
        if entry and (not path.is_file() or path.stat().st_size != entry["bytes"]):
            raise ShardError(f"{path}: missing or of the wrong size; delete it and make it again")
    return list(listed)


def listed_shards(source: Path | str) -> dict[Path, dict[str, Any]]:
    """The tar files as of `shard_files`, each with its entry in the manifest ({} without one), whole or not."""
    folder = Path(source)
    if (folder / MANIFEST).is_file():
        manifest = _read_manifest(folder)
        done = sum(entry["n"] for entry in manifest["shards"])
        if done < manifest["count"]:
            raise ShardError(
                f"{folder}: unfinished, {done} of {manifest['count']} samples; run the command that made it "
                f"again, or read what is there as '{folder}/shard-*.tar'"
            )
        return {folder / entry["name"]: entry for entry in manifest["shards"]}
    files = sorted(folder.glob("*.tar")) if folder.is_dir() else sorted(map(Path, glob.glob(str(source))))
    if not files:
        raise ShardError(f"{source}: no shards there; name a folder of .tar files, one .tar file, or a glob")
    return {file: {} for file in files}


def read_members(path: Path) -> Iterator[dict[str, Any]]:
    """The raw members {"__key__": key, "png": bytes, ...} of each sample of one shard, in stored order."""
    sample: dict[str, Any] = {}
    end = 0
    try:
        with path.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for info in filter(tarfile.TarInfo.isreg, tar):
                if info.size > MAX_MEMBER_BYTES:
                    raise ShardError(f"{path}: {info.name} has {info.size} bytes; at most {MAX_MEMBER_BYTES}")
                key, _, name = os.path.basename(info.name).partition(".")
                if sample and key != sample["__key__"]:
                    yield sample
                    sample = {}
                stream.seek(info.offset_data)
                sample |= {"__key__": key, name.lower(): stream.read(info.size)}
                end = info.offset_data + -(-info.size // 512) * 512
            # tarfile takes a damaged header, or a file cut between members, for the end of the archive.
            stream.seek(end)
            if stream.read(512) != bytes(512):
                raise tarfile.ReadError("damaged or cut short")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ShardError(f"{path}: broken tar file ({error}); make or fetch it again") from None
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


def _name(shard: int) -> str:
    return f"shard-{shard:06d}.tar"


def _begin(out: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """The manifest to go on with: the one in `out` if it was begun with the same settings, else a new one."""
    wanted = json.loads(json.dumps(wanted))  # tuples become lists, as they will be when read back
    for leftover in out.glob(f"{_TEMPORARY}*"):
        leftover.unlink()
    if not (out / MANIFEST).exists():
        if any(out.glob("*.tar")):
            raise ShardError(f"{out}: holds .tar files but no {MANIFEST}; choose an empty folder")
        return {"version": 1, **wanted, "shards": []}
    manifest = _read_manifest(out)
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
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != entry["sha256"]:
                raise ShardError(f"{path}: its sha256 is not the one written; delete it, then run this again")
        kept.append(entry)
    manifest["shards"] = kept
    names = {entry["name"] for entry in kept}
    total = -(-manifest["count"] // manifest["per_shard"])
    return [shard for shard in range(total) if _name(shard) not in names]


def _write_shard(
    out: Path, shard: int, indices: range, samples: Iterator[tuple[str, dict[str, bytes]]], bar: tqdm
) -> dict[str, Any]:
    """Writes the next `samples` as one shard and returns its manifest entry."""
    temporary, final = out / f"{_TEMPORARY}{_name(shard)}", out / _name(shard)
    keys: set[str] = set()
    with temporary.open("w+b") as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for _ in indices:
                key, members = next(samples)
                if key in keys:
                    raise ShardError(f"{final}: two samples have the key {key!r}; keys must differ")
                keys.add(key)
                _add(tar, key, members)
                bar.update()
        _flush(stream)
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        size = stream.tell()
    _rename(temporary, final)
    return {"name": final.name, "n": len(indices), "bytes": size, "sha256": digest}


def _add(tar: tarfile.TarFile, key: str, members: Mapping[str, bytes]) -> None:
    """Appends members under headers that hold nothing of this machine or moment."""
    for name, data in members.items():
        info = tarfile.TarInfo(f"{key}.{name}")
        info.size, info.mode = len(data), 0o644
        tar.addfile(info, io.BytesIO(data))


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        records = [(_FIELDS, manifest), *((_ENTRY_FIELDS, entry) for entry in manifest.get("shards", []))]
        for fields, record in records:
            if missing := [name for name in fields if name not in record]:
                raise ValueError(f"lacks {', '.join(missing)}")
        if manifest["version"] != 1:
            raise ValueError(f"version {manifest['version']} is not 1")
        if strays := [e["name"] for e in manifest["shards"] if not re.fullmatch(r"[\w-]+\.tar", e["name"])]:
            raise ValueError(f"{strays[0]!r} is not the name of a shard")
    except (ValueError, TypeError, AttributeError) as error:
        raise ShardError(f"{path}: not a readable manifest ({error}); make the data set again") from None
    return manifest


def _write_manifest(out: Path, manifest: Mapping[str, Any]) -> None:
    temporary = out / f"{_TEMPORARY}{MANIFEST}"
    with temporary.open("wb") as stream:
        stream.write(json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n")
        _flush(stream)
    _rename(temporary, out / MANIFEST)


def _flush(stream: BinaryIO | Any) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _rename(temporary: Path, final: Path) -> None:
    os.replace(temporary, final)
    if os.name == "posix":  # elsewhere a folder cannot be opened to be flushed
        folder = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def _only_writer(out: Path) -> Iterator[None]:
    """Holds the folder's lock, which the system lets go when the process ends in whatever way."""
    try:
        import fcntl
    except ImportError:  # Windows: two writers at once are the user's to avoid
        yield
        return
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ShardError(f"{out}: another process is writing here; wait, or choose another folder") from None
        yield
