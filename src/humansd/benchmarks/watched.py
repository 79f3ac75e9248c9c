"""Runs a humansd command and writes down each file that it opens.

python -m humansd.benchmarks.watched FILE COMMAND ...
"""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
from typing import Any


def watch(file: str) -> None:
    """From now on, the name of each file that Python opens or removes in this process is a line of `file`."""
    tempfile.gettempdir()  # tries once, with a file of its own, where temporary files can be written
    told = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    within = {"os.remove", "os.rmdir", "os.mkdir"}  # their last argument is a folder's descriptor, or -1
    events = {"open", "os.rename", "os.listdir", "os.scandir", "shutil.rmtree", *within}

    def heard(event: str, given: tuple[Any, ...]) -> None:
        if event not in events or not given or not isinstance(given[0], str | bytes | os.PathLike):
            return
        name = os.fsdecode(given[0])
        if event in within and given[-1] >= 0:
            name = os.path.join(os.readlink(f"/proc/self/fd/{given[-1]}"), name)
        os.write(told, os.fsencode(name).replace(b"\n", b"?") + b"\n")

    sys.addaudithook(heard)


if __name__ == "__main__":
    watch(sys.argv[1])
    sys.argv[1:] = sys.argv[2:]
    runpy.run_module("humansd.cli", run_name="__main__")
