"""A run that learns nothing and loads nothing, with the files of a real one, for what starts and kills processes.

`python quick_run.py FOLDER STEPS [PAUSE_S]` goes on behind its last checkpoint.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path


def run(folder: Path, steps: int, pause: float) -> None:
    begun = len(list((folder / "checkpoints").glob("step-*")))
    for step in range(begun + 1, steps + 1):
        time.sleep(pause)
        beside = folder / "checkpoints" / f".step-{step:08d}"
        beside.mkdir(parents=True, exist_ok=True)
        (beside / "model.safetensors").write_text(f"{step} steps")
        (beside / "state.json").write_text("{}")
        os.replace(beside, beside.with_name(beside.name[1:]))
    (folder / "export").mkdir(exist_ok=True)
    (folder / "export" / "model.safetensors").write_text(f"{steps} steps")
    (folder / "export" / "progress.json").write_text("{}")


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
