"""Room on the disk: asked for before the work begins, taken for good, and named where it runs out."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from humansd.core.errors import DiskError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_BLOCK = 1 << 20
_SPARE = 1 << 20  # bytes left for state files


def check_space(folder: Path, needed: int, what: str, remedy: str = "make room there, or use another disk") -> None:
    """DiskError unless `needed` bytes and a little more are free on the disk of `folder`.

    what: is to be written, as it stands in "... need 6.6 GB": a plural.
    """
    free = shutil.disk_usage(folder).free
    if needed + _SPARE > free:
        text = f"{folder}: {what} need {in_words(needed)} and {in_words(free)} are free; {remedy}"
        raise DiskError(errno.ENOSPC, text)


def missing_bytes(path: Path, size: int) -> int:
    """How much of `size` bytes the file at `path` does not have on the disk yet."""
    if not path.exists():
        return size
    about = path.stat()
    taken = about.st_blocks * 512 if hasattr(about, "st_blocks") else about.st_size  # Windows has no st_blocks
    return max(0, size - taken)


def allocate(path: Path, size: int) -> None:
    """Gives the first `size` bytes of an existing file their place on the disk; what is in it stays.

    A memory map of a file with holes dies of SIGBUS where the disk is full; this one does not. On file systems that
    copy what is written (btrfs, ZFS) that cannot be promised.

    Raises:
        DiskError: there is no room; the message says how much is needed.
    """
    with disk_errors(path, lambda: size), path.open("r+b") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, size)
        except (AttributeError, OSError) as error:
            if isinstance(error, OSError) and error.errno in _FULL:
                raise
            for start in range(0, size, _BLOCK):  # no such call here: every byte is written once
                stream.seek(start)
                block = stream.read(min(_BLOCK, size - start))
                stream.seek(start)
                stream.write(block.ljust(min(_BLOCK, size - start), b"\0"))
        stream.flush()
        os.fsync(stream.fileno())


@contextlib.contextmanager
def disk_errors(path: Path, needed: Callable[[], int]) -> Iterator[None]:
    """Says of an OSError for want of room which file it was, how many bytes are `needed` there and what to do."""
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        if error.errno not in _FULL:
            raise
        why = "a file may not be that large here" if error.errno == errno.EFBIG else "the disk is full"
        free = in_words(shutil.disk_usage(path.parent).free)
        text = f"{path}: {why}; about {in_words(needed())} are needed there and {free} are free"
        raise DiskError(error.errno, f"{text}; make room and give the same command again") from error


def in_words(size: int) -> str:
    """A number of bytes as "6.6 GB", "12 MB" or "0.3 MB"."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"
