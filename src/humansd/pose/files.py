"""Reading and writing files with limits: size, JSON syntax, and writes that are never half done."""

from __future__ import annotations

import errno
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

from humansd.pose.errors import DiskError, PoseError

MAX_FILE_BYTES = 64 * 2**20
MAX_UNPACKED_BYTES = 256 * 2**20


def read_bytes(path: str | Path) -> bytes:
    """The whole file; PoseError when it is missing, empty, not a file or larger than 64 MiB."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise PoseError("is a folder", file=path, remedy="Name a pose file inside it.")
        if size > MAX_FILE_BYTES:
            raise PoseError(
                f"has {size / 2**20:.0f} MiB, the limit is {MAX_FILE_BYTES // 2**20} MiB",
                file=path,
                remedy="Split it into smaller files.",
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise PoseError("does not exist", file=path, remedy="Check the path.") from None
    except OSError as error:
        raise PoseError(f"cannot be read ({error.strerror})", file=path, remedy="Check its rights.") from None
    if not data.strip():
        raise PoseError("is empty", file=path, remedy="Write the poses again; nobody is 'people': [].")
    return data


def parse_json(data: bytes, path: str | Path) -> Any:
    """The JSON value in `data`; PoseError with line and column when it is broken."""
    try:
        return json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise PoseError(
            f"is not valid JSON ({error.msg})", file=path, field=where, remedy="Mend or export it again."
        ) from None
    except UnicodeDecodeError:
        raise PoseError(
            "is neither JSON text in UTF-8 nor npz", file=path, remedy="Give a pose file (JSON or npz)."
        ) from None
    except (RecursionError, ValueError) as error:
        raise PoseError(f"is not usable JSON ({error})", file=path, remedy="Export it again.") from None


def dump_json(value: Any, path: str | Path) -> bytes:
    """UTF-8 JSON; PoseError when an extra is not a plain JSON value or holds NaN."""
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise PoseError(
            f"is not a plain JSON value ({error})",
            file=path,
            field="extras",
            remedy="Keep only numbers, text, lists and dicts in People.extras.",
        ) from None


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


def check_archive(data: bytes, path: str | Path) -> None:
    """PoseError unless `data` is a whole zip archive that unpacks to 256 MiB or less."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            total = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise PoseError(f"is not a whole npz file ({error})", file=path, remedy="Copy it again.") from None
    if total > MAX_UNPACKED_BYTES:
        raise PoseError(
            f"unpacks to {total / 2**20:.0f} MiB, the limit is {MAX_UNPACKED_BYTES // 2**20} MiB",
            file=path,
            remedy="Split it into smaller files.",
        )
