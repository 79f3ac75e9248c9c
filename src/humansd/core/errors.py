"""Errors of the system that name the file and the remedy."""

from __future__ import annotations


class DiskError(OSError):
    """A file that the disk does not take. `errno` is the system's; the message names the file and the remedy."""

    def __str__(self) -> str:
        return self.strerror or super().__str__()
