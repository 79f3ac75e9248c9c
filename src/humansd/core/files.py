"""Files written whole or not at all: a kill or a full disk leaves the old file or the new."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

from humansd.core.errors import DiskError


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON; OSError (`core.errors.DiskError`) where the disk does not take it."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8; OSError (`core.errors.DiskError`) where the disk does not take it."""
    write_whole(path, lambda file: file.write(text.encode()))


def write_whole(path: str | Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write through a temporary file in the same folder and rename, so that no reader sees half a file.

    Args:
        write: writes the content to the stream it is given; after a failure it may be asked again, to learn its size.

    Raises:
        DiskError: an OSError with the system's `errno`; the message names `path` and the remedy. Nothing of this
            call stays on the disk, and what was at `path` is as it was.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            with open(part, "wb") as stream:
                write(stream)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise DiskError(error.errno, _told(error, path, write)) from error


def _told(error: OSError, path: Path, write: Callable[[IO[bytes]], object]) -> str:
    """What went wrong at `path` and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        full = "the disk is full" if error.errno == errno.ENOSPC else "your share of the disk is used up"
        return f"{path}: {full}; {_needed_mb(write)} MB are needed there, make room and give the same command again"
    reason = f"{path}: cannot be written ({error.strerror or error})"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"{reason}; make the folder {path.parent} first"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{reason}; check the rights of the folder {path.parent}, or name another place"
    if error.errno == errno.EISDIR:
        return f"{reason}; name a file, not a folder"
    return f"{reason}; check the disk and its limits, or name another place"


def _needed_mb(write: Callable[[IO[bytes]], object]) -> str:
    counter = _Counter()
    write(cast(IO[bytes], counter))
    return f"{counter.size / 1e6:.2g}" if counter.size < 10e6 else f"{counter.size / 1e6:.0f}"


class _Counter(io.RawIOBase):
    """A stream that counts what it is given and keeps nothing."""

    size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        count = memoryview(data).nbytes
        self.size += count
        return count
