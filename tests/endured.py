"""Commands for test_endurance.py, in a process without threads, as forking asks for: prints what came of each.

`python endured.py FOLDER`
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from humansd.benchmarks import endurance
from humansd.benchmarks.endurance import Shell, Work
from humansd.core.files import write_text

TEXT = "x" * 16_000


def careful(out: Path) -> None:
    """Whole files, and none twice."""
    out.mkdir(exist_ok=True)
    for number in range(16):
        time.sleep(0.02)
        if not (out / f"{number}.txt").exists():
            write_text(out / f"{number}.txt", f"{number}{TEXT}")


def forgetful(out: Path) -> None:
    """Says again what it said before it was killed."""
    out.mkdir(exist_ok=True)
    with (out / "log.txt").open("a") as file:
        file.write("begun\n")
    time.sleep(0.4)


def rude(out: Path) -> None:
    """Does not say what is the matter."""
    out.mkdir(exist_ok=True)
    try:
        careful(out)
    except OSError:
        raise ValueError("humansd: something went wrong") from None


def command(words: list[str]) -> int:
    work: Callable[[Path], None] = globals()[words[0]]
    try:
        work(Path(words[1]))
    except (OSError, ValueError) as error:
        print(f"humansd: {error}", flush=True)
        return 2
    return 0


def left(folder: Path) -> str:
    files = sorted(file for file in folder.iterdir() if file.suffix == ".txt")
    return hashlib.sha256("".join(file.name + file.read_text() for file in files).encode()).hexdigest()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    can_mount = endurance._can_mount(folder)
    found = {}
    for name, kills, sizes in (("careful", 4, 3), ("forgetful", 2, 0), ("rude", 0, 1)):
        work = Work(name, lambda to, name=name: [name, str(to)], left)
        shell = Shell(command, folder / f"{name}.log")
        one = endurance._endure(work, shell, folder / name, kills, sizes if can_mount else 0, seed=0)
        found[name] = [one.kills, one.disks, one.faults]
    print(json.dumps({"can_mount": can_mount, **found}))
