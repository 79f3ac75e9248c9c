"""A command that is killed and starved by the benchmark of endurance, and what it leaves."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Work:
    """A command and what it leaves.

    words: the arguments that make it write into a folder. left: a digest of what counts there.
    """

    name: str
    words: Callable[[Path], list[str]]
    left: Callable[[Path], str]


def forked(run: Callable[[], object]) -> int:
    """The exit status of a function in a forked process: this one stays without threads."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            run()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def digest_of(folder: Path, *patterns: str) -> str:
    """A digest of the names and contents of the files of a folder that these patterns find."""
    digest = hashlib.sha256()
    for file in sorted(file for pattern in patterns for file in folder.glob(pattern)):
        digest.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()
