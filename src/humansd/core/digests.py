"""Content of files, told apart by sha256; each is read once in a process, as long as it stays as it is."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path


def file_sha256(path: Path) -> str:
    """sha256 of the file in hex digits; read anew where its size, its time of change or the file itself is another.

    About a second for a gigabyte. Raises OSError where it cannot be read.
    """
    about = path.stat()
    return _sha256(path, about.st_size, about.st_mtime_ns, about.st_ino)


def read_sha256(path: Path) -> str:
    """The same, read now in any case: for a file that may change within the tick of a clock."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@functools.lru_cache(maxsize=4096)
def _sha256(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    return read_sha256(path)
