"""Shards of a data set that is being built, and the one file that says how far it is.

A shard is written under another name and renamed when it is whole; then `manifest.json` is replaced, with the place in
the source that was reached and everything that was left out until there. So a kill at any moment leaves what was true
at the end of the last shard, and the same command goes on from it. `left-out.jsonl` has a line for each sample that is
not in the data set; what a kill left behind in it is cut off. A round that asks again for what failed writes it anew
without the lines of those, beside the old one, which it replaces behind the manifest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from humansd.build.duplicates import NearDuplicates
from humansd.build.item import Item, LeftOut
from humansd.core.digests import file_sha256
from humansd.core.disk import disk_errors
from humansd.core.files import write_whole
from humansd.data.shards import (
    MANIFEST,
    TEMPORARY,
    ShardError,
    add_members,
    altered,
    flush,
    read_manifest,
    read_members,
    rename_durably,
    shard_name,
    write_manifest,
)
from humansd.pose.checks import shown

LEFT_OUT = "left-out.jsonl"
SHOWN = "left-out"  # folder of a few small images of each reason
SHOWN_EACH = 12


class ShardWriter:
    """Writes the kept items of a build to shards, in order, and goes on where another left off.

    Use as a context manager. near: bits by which two perceptual hashes of duplicates may differ; None: only the same
    pixels are duplicates. Raises ShardError for a folder that holds something else or was begun otherwise.
    """

    def __init__(self, out: Path, per_shard: int, settings: Mapping[str, Any], near: int | None = None) -> None:
        self.out, self.per_shard = out, per_shard
        for leftover in out.glob(f"{TEMPORARY}*"):
            leftover.unlink()
        wanted: dict[str, Any] = json.loads(json.dumps({**settings, "near_duplicates": near}, sort_keys=True))
        self.manifest = _begun(out, per_shard, wanted)
        self.build: dict[str, Any] = self.manifest["build"]
        _settle(out, self.build["round"])
        self.counts = Counter(self.build["left_out"])
        self._pixels: dict[str, str] = {}
        self._near = None if near is None else NearDuplicates(near)
        self._remember()
        _cut(out / LEFT_OUT, self.build["log_bytes"])
        self._tar: tarfile.TarFile | None = None
        self._stream: Any = None  # the open shard
        self._in_shard = self._taken = 0
        self._log: list[bytes] = []
        self._thumbs: dict[str, bytes] = {}
        self._failed: list[list[Any]] = [list(one) for one in self.build["failed"]]
        self._retried: set[int] = set()  # whose lines are still in the log

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop_open_shard()

    @property
    def kept(self) -> int:
        """Samples in finished shards and in the open one."""
        return sum(entry["n"] for entry in self.manifest["shards"]) + self._in_shard

    def begin_round(self) -> list[int] | None:
        """The places in the source that are still to be looked at: None for all, those that failed before where a
        finished build is run again. [] where nothing is left to do."""
        if self.build["finished"]:
            again = [one[0] for one in self._failed]
            for _, stage, reason in self._failed:
                self.counts[f"{stage}: {reason}"] -= 1
            self._failed, self._retried = [], set(again)
            self.build.update(finished=not again, round=self.build["round"] + bool(again), position=0, again=again)
            return again
        return self.build["again"]

    def take(self, position: int, item: Item) -> None:
        """The next item, at this position of the round."""
        self.build["position"] = position + 1
        item = item if item.left_out else self._unless_twice(item)
        if item.left_out:
            self._leave_out(item, item.left_out)
            return
        assert item.members is not None
        path = self.out / f"{TEMPORARY}{shard_name(len(self.manifest['shards']))}"
        with disk_errors(path, lambda: self.per_shard * (self._taken // max(1, self._in_shard))):
            if self._tar is None:
                self._stream = path.open("w+b")
                self._tar = tarfile.TarFile(fileobj=self._stream, mode="w", format=tarfile.USTAR_FORMAT)
            add_members(self._tar, item.key, item.members)
        self._in_shard += 1
        self._taken += sum(1024 + len(data) for data in item.members.values())
        if self._in_shard == self.per_shard:
            self._commit()

    def finish(self, total: int) -> dict[str, Any]:
        """Closes the last shard; the manifest of the finished data set. total: items of its source that were seen."""
        self.build.update(finished=True, again=None, seen=total)
        self._commit()
        return self.manifest

    def _unless_twice(self, item: Item) -> Item:
        pixels, value = item.extras.get("pixels"), item.extras.get("phash")
        if pixels in self._pixels:
            return item.drop("duplicates", "the same image", f"as {self._pixels[pixels]}")
        if self._near is not None and value is not None:
            other = self._near.find(int(value, 16))
            if other is not None:
                return item.drop("duplicates", "nearly the same image", f"as {other}")
        self._know(item.key, item.extras)
        return item

    def _know(self, key: str, extras: Mapping[str, Any]) -> None:
        if "pixels" in extras:
            self._pixels[extras["pixels"]] = key
        if self._near is not None and "phash" in extras:
            self._near.add(int(extras["phash"], 16), key)

    def _remember(self) -> None:
        """The digests of the images in finished shards, of which each must be the one that was written."""
        for entry in self.manifest["shards"]:
            path = self.out / entry["name"]
            if not path.is_file():
                raise ShardError(f"{path}: is missing; put it back, or build the data set anew in an empty folder")
            if path.stat().st_size != entry["bytes"] or file_sha256(path) != entry["sha256"]:
                raise ShardError(altered(path))
            for members in read_members(path):
                self._know(members["__key__"], json.loads(members["json"])["extras"])

    def _leave_out(self, item: Item, why: LeftOut) -> None:
        name = f"{why.stage}: {why.reason}"
        self.counts[name] += 1
        if item.thumb is not None and self.counts[name] <= SHOWN_EACH:
            self._thumbs[f"{slug(name)}-{item.index:08d}.jpg"] = item.thumb
        if why.retry:
            self._failed.append([item.index, why.stage, why.reason])
        line = {"index": item.index, "stage": why.stage, "reason": why.reason, "detail": why.detail}
        self._log.append(json.dumps({**line, "origin": item.origin}, ensure_ascii=True).encode() + b"\n")

    def _commit(self) -> None:
        """Everything up to here becomes true at once, with the new manifest."""
        if self._tar is not None:
            self.manifest["shards"].append(self._close_shard())
        log = self._write_log()
        self._write_thumbs()
        self.build["failed"] = self._failed
        self.build["left_out"] = {name: n for name, n in sorted(self.counts.items()) if n}
        done = sum(entry["n"] for entry in self.manifest["shards"])
        # An unfinished data set promises more than there is, which its readers refuse.
        self.manifest["count"] = done + (not self.build["finished"])
        write_manifest(self.out, self.manifest)
        if log.name != LEFT_OUT:
            rename_durably(log, self.out / LEFT_OUT)

    def _write_log(self) -> Path:
        """The file that holds the log from now on: the log itself with more lines, or the one to take its place."""
        log = self.out / LEFT_OUT
        with disk_errors(log, lambda: self.build["log_bytes"] + sum(map(len, self._log))):
            if self._retried:
                anew = _anew(self.out, self.build["round"])
                with log.open("rb") as old, anew.open("wb") as stream:
                    stream.writelines(line for line in old if json.loads(line)["index"] not in self._retried)
                log = anew
            with log.open("ab") as stream:
                stream.writelines(self._log)
                flush(stream)
                self.build["log_bytes"] = stream.tell()
        self._log, self._retried = [], set()
        return log

    def _write_thumbs(self) -> None:
        folder = self.out / SHOWN
        if self._thumbs:
            folder.mkdir(exist_ok=True)
        for name, data in self._thumbs.items():
            write_whole(folder / name, lambda stream, data=data: stream.write(data))  # type: ignore[misc]
        self._thumbs = {}

    def _close_shard(self) -> dict[str, Any]:
        assert self._tar is not None
        assert self._stream is not None
        final = self.out / shard_name(len(self.manifest["shards"]))
        with disk_errors(final, lambda: self._taken), self._stream as stream:
            self._tar.close()
            flush(stream)
            size = stream.tell()
            stream.seek(0)
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        rename_durably(self.out / f"{TEMPORARY}{final.name}", final)
        entry = {"name": final.name, "n": self._in_shard, "bytes": size, "sha256": digest}
        self._tar, self._stream, self._in_shard, self._taken = None, None, 0, 0
        return entry

    def _drop_open_shard(self) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()
            (self.out / f"{TEMPORARY}{shard_name(len(self.manifest['shards']))}").unlink(missing_ok=True)
            self._tar, self._stream = None, None


def _begun(out: Path, per_shard: int, settings: dict[str, Any]) -> dict[str, Any]:
    """The manifest to go on with: that of `out` if it was begun with the same settings, else a new one."""
    if not (out / MANIFEST).exists():
        known = {shard_name(0)} if (out / LEFT_OUT).exists() else set()  # a kill before the first manifest
        if any(path.name not in known for path in out.glob("*.tar")):
            raise ShardError(f"{out}: holds .tar files but no {MANIFEST}; choose an empty folder")
        build: dict[str, Any] = {
            "finished": False,
            "round": 0,
            "position": 0,
            "again": None,
            "failed": [],
            "left_out": {},
        }
        start: dict[str, Any] = {"version": 1, "count": 1, "per_shard": per_shard, "settings": settings, "shards": []}
        manifest = {**start, "build": {**build, "log_bytes": 0, "seen": 0}}
        (out / LEFT_OUT).touch()
        return manifest
    manifest = read_manifest(out)
    if not isinstance(manifest.get("build"), dict):
        raise ShardError(f"{out / MANIFEST}: is not of a data set that was built; choose an empty folder")
    then, now = {"per_shard": manifest["per_shard"], **manifest["settings"]}, {"per_shard": per_shard, **settings}
    for name in [*now, *then]:
        if then.get(name) != now.get(name):
            raise ShardError(
                f"{out / MANIFEST}: begun with {name} {shown(then.get(name))}, now asked for {shown(now.get(name))}; "
                "choose another folder, or what it was begun with"
            )
    return manifest


def slug(text: str) -> str:
    """A text as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]


def _anew(out: Path, round_: int) -> Path:
    """The log of that round, until it takes the place of the last one's."""
    return out / f"{LEFT_OUT}.{round_}"


def _settle(out: Path, round_: int) -> None:
    """The log that goes with the manifest, whichever of the two a kill came between."""
    for path in out.glob(f"{LEFT_OUT}.[0-9]*"):
        if path == _anew(out, round_):
            rename_durably(path, out / LEFT_OUT)
        else:
            path.unlink()


def _cut(path: Path, size: int) -> None:
    """The log as it was at the last commit."""
    if size and (not path.exists() or path.stat().st_size < size):
        raise ShardError(f"{path}: is missing or cut short; put it back, or build the data set anew in an empty folder")
    with path.open("ab") as stream:
        stream.truncate(size)


def left_out_lines(out: Path) -> Iterator[dict[str, Any]]:
    """What `left-out.jsonl` says: index in the source, stage, reason, detail and origin of each."""
    with (out / LEFT_OUT).open("rb") as stream:
        yield from map(json.loads, stream)
