"""Runs a humansd command and writes down each file that it opens.

python -m humansd.benchmarks.watched FILE COMMAND ...
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import Any


def watch(file: str) -> None:
    """From now on, the name of each file that Python opens or removes in this process is a line of `file`."""
    told = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    events = {"open", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.listdir", "os.scandir", "shutil.rmtree"}

    def heard(event: str, given: tuple[Any, ...]) -> None:
        if event in events and given and isinstance(given[0], str | bytes | os.PathLike):
            os.write(told, os.fsencode(given[0]).replace(b"\n", b"?") + b"\n")

    sys.addaudithook(heard)


if __name__ == "__main__":
    watch(sys.argv[1])
    sys.argv[1:] = sys.argv[2:]
    runpy.run_module("humansd.cli", run_name="__main__")
