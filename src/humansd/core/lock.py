"""One writer at a time in a folder. The system lets the lock go when its process ends, in whatever way."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from humansd.core.errors import DiskError

log = logging.getLogger(__name__)

LOCK_FILE = ".lock"
_POLL_S = 0.2
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some network file systems have none
_held: dict[str, tuple[int, int]] = {}  # folder -> thread, file descriptor


class LockedError(ValueError):
    """Another process writes in a folder; the message names the folder, the process and the remedy."""


@contextlib.contextmanager
def locked(folder: Path | str, what: str, *, wait: bool = False) -> Iterator[None]:
    """Holds `folder` for this thread alone; makes the folder where it is missing.

    A lock by `flock` on `folder`/.lock, between processes of one machine (and of several, where the file system
    carries it over). A process that ends lets it go, even by SIGKILL; the file stays and means nothing. The same
    thread may take the lock again inside. What it starts does not hold it.

    Args:
        what: is written there, as it stands in "is writing ... there": "shards", "a training run".
        wait: for the other process to end, with a note on stderr, in place of an error.

    Raises:
        LockedError: another process or thread holds it.
        DiskError: the folder cannot be written.
    """
    try:
        import fcntl  # noqa: F401
    except ImportError:  # Windows: two writers at once are the user's to avoid
        Path(folder).mkdir(parents=True, exist_ok=True)
        yield
        return
    key = str(Path(folder).resolve())
    if key in _held and _held[key][0] == threading.get_ident():
        yield
        return
    descriptor = _acquire(Path(folder), key, what, wait)
    _held[key] = (threading.get_ident(), descriptor)
    try:
        yield
    finally:
        _held.pop(key, None)
        os.close(descriptor)


def _acquire(folder: Path, key: str, what: str, wait: bool) -> int:
    """The open file that holds the lock."""
    told = False
    while True:
        descriptor = -1 if key in _held else _try(folder)
        if descriptor >= 0:
            return descriptor
        problem = f"{folder}: another process{_holder(folder, key)} is writing {what} there"
        if not wait:
            raise LockedError(f"{problem}; wait until it has ended, or choose another folder")
        if not told:
            log.warning("%s; waiting for it", problem)
            told = True
        time.sleep(_POLL_S)


def _try(folder: Path) -> int:
    """The open file that holds the lock, -1 where another process has it."""
    import fcntl

    path = folder / LOCK_FILE
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            remedy = "check its rights and room, or choose another folder"
            raise DiskError(error.errno, f"{folder}: cannot be written ({error.strerror}); {remedy}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return -1
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
            log.warning("%s: no locks on this disk; let no other run write there", folder)
            return descriptor
        if _is_at(descriptor, path):
            with contextlib.suppress(OSError):  # a full disk: the holder's name is a help, no more
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return descriptor
        os.close(descriptor)  # the folder was removed meanwhile, or made again


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.stat(path).st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _holder(folder: Path, key: str) -> str:
    if key in _held:
        return f" ({os.getpid()}, this one)"
    with contextlib.suppress(OSError, ValueError), (folder / LOCK_FILE).open("rb") as file:
        return f" ({int(file.read(20))})"
    return ""


def _forget() -> None:
    """In a forked child: what the parent holds is not ours, and must not outlive it here."""
    for _, descriptor in _held.values():
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
