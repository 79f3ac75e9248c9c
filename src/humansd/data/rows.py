"""Arrays on disk, one row for each thing that was computed once: resumable, and opened as memory maps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from humansd.data.files import write_json

SAVE_EVERY = 20  # chunks

Rows = dict[str, np.ndarray]


def build_rows(
    out: Path,
    kind: str,
    about: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    compute: Callable[[slice], Rows],
    chunk: int,
) -> Rows:
    """Arrays (fp16) of these names and shapes, all with as many rows, in a folder of their own below `out`.

    The folder's name is `kind` and a digest of `about`, plain JSON values that decide what the rows hold: other values
    are other arrays. What is missing is computed, `chunk` rows at a time; a killed call goes on where it was.

    Args:
        compute: the rows of a slice, by name.
    """
    folder = out / f"{kind}-{hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]}"
    path = folder / "about.json"
    done = json.loads(path.read_text())["done"] if path.exists() else 0
    count = next(iter(shapes.values()))[0]
    folder.mkdir(parents=True, exist_ok=True)
    mode: Any = "r+" if done else "w+"
    arrays = {
        name: np.lib.format.open_memmap(
            folder / f"{name}.npy", mode=mode, dtype=np.float16, shape=None if done else shape
        )
        for name, shape in shapes.items()
    }
    starts = range(done, count, chunk)
    for number, start in enumerate(tqdm(starts, desc=kind, dynamic_ncols=True, disable=not len(starts))):
        rows = slice(start, min(start + chunk, count))
        for name, values in compute(rows).items():
            arrays[name][rows] = values
        if number % SAVE_EVERY == 0 or rows.stop == count:
            for array in arrays.values():
                array.flush()
            write_json(path, {**about, "done": rows.stop})
    return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in shapes}
