"""Folders written whole or not at all, and a full disk in words."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from humansd.core.errors import DiskError

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into; when the block ends it takes the place of `folder`, and after a failure it is gone and
    `folder` is as it was.

    Raises:
        DiskError: the disk is full; the message names `folder` and the remedy.
    """
    part, old = (folder.with_name(f".{folder.name}.{end}") for end in ("part", "old"))
    if old.exists() and not folder.exists():  # killed between the two renames
        old.rename(folder)
    for left in (part, old):
        shutil.rmtree(left, ignore_errors=True)
    with full_disk_named(folder):
        try:
            part.mkdir(parents=True)
            yield part
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def full_disk_named(path: Path, needed: int = 0, then: str = "give the same command again") -> Iterator[None]:
    """Turns the error of a full disk, whoever wrote, into one that names `path`, what is needed and what to do.

    needed: bytes, if known. then: what to do when there is room.
    """
    try:
        yield
    except Exception as error:
        if not is_full_disk(error):
            raise
        free = next(shutil.disk_usage(one).free for one in (path, *path.parents) if one.exists())
        need = f"{_size(needed)} needed, " if needed else ""
        text = f"{path}: the disk is full; make room ({need}{_size(free)} free), then {then}"
        raise DiskError(getattr(error, "errno", None) or errno.ENOSPC, text) from error


def is_full_disk(error: BaseException) -> bool:
    """Whether a disk or a quota is full; safetensors' and others' errors have no `errno` and only say so."""
    return getattr(error, "errno", None) in FULL or "(os error 28)" in str(error)


def _size(count: float) -> str:
    unit, name = next((one for one in ((1e9, "GB"), (1e6, "MB")) if count >= one[0]), (1e3, "kB"))
    return f"{count / unit:.1f} {name}"
