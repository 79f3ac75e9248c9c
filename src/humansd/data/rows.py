"""Arrays on disk, one row for each thing that was computed once: resumable, and opened as memory maps."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from humansd.core.disk import allocate, check_space, disk_errors, missing_bytes
from humansd.core.files import write_json
from humansd.core.lock import locked

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
    are other arrays. What is missing is computed, `chunk` rows at a time; a killed call goes on where it was. Where
    another process computes them, this one waits for it. The disk is taken before the work begins: what is written into
    a memory map cannot be refused later, and a full disk would end the process (SIGBUS).

    Args:
        compute: the rows of a slice, by name.

    Raises:
        DiskError: there is no room; the message says how much is needed.
        ValueError: what is there is damaged.
    """
    folder = out / f"{kind}-{hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]}"
    count = next(iter(shapes.values()))[0]
    if _done(folder) < count:
        with locked(folder, kind, wait=True):
            done = _done(folder)  # another process may have gone on meanwhile
            if done < count:
                _compute(folder, kind, about, shapes, compute, range(done, count, chunk))
    return {name: _open(folder, name, shape, "r") for name, shape in shapes.items()}


def _compute(
    folder: Path,
    kind: str,
    about: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    compute: Callable[[slice], Rows],
    starts: range,
) -> None:
    """The rows from `starts` on, the disk taken for all of them before the first is computed."""
    _make_room(folder, kind, shapes, new=starts.start == 0)
    arrays = {name: _open(folder, name, shape, "r+") for name, shape in shapes.items()}
    for number, start in enumerate(tqdm(starts, desc=kind, dynamic_ncols=True)):
        rows = slice(start, min(start + starts.step, starts.stop))
        for name, values in compute(rows).items():
            arrays[name][rows] = values
        if number % SAVE_EVERY == 0 or rows.stop == starts.stop:
            for array in arrays.values():
                array.flush()
            write_json(folder / "about.json", {**about, "done": rows.stop})


def _make_room(folder: Path, kind: str, shapes: Mapping[str, tuple[int, ...]], *, new: bool) -> None:
    """DiskError where the arrays have no room; new ones are begun, and taken away again where they do not fit."""
    paths = {folder / f"{name}.npy": shape for name, shape in shapes.items()}
    for name, shape in shapes.items():
        if new:
            (folder / f"{name}.npy").unlink(missing_ok=True)
        else:
            _open(folder, name, shape, "r")
    sizes = {path: len(_header(shape)) + 2 * math.prod(shape) for path, shape in paths.items()}
    needed = sum(missing_bytes(path, size) for path, size in sizes.items())
    check_space(folder, needed, f"the {kind} that are kept", "make room there and give the same command again")
    try:
        for path, shape in paths.items():
            if new:
                with disk_errors(path, lambda: needed):
                    path.write_bytes(_header(shape))
            allocate(path, sizes[path])
    except OSError:
        for path in paths if new else ():
            path.unlink(missing_ok=True)
        raise


def _header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f2", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def _open(folder: Path, name: str, shape: tuple[int, ...], mode: Literal["r", "r+"]) -> np.memmap:
    """The array; ValueError where it is not what it should be."""
    path, remedy = folder / f"{name}.npy", f"delete {folder} to compute it again"
    if not path.exists():
        raise ValueError(f"{path}: is missing; {remedy}")
    # numpy would fill what is cut off with zeros
    if path.stat().st_size < len(_header(shape)) + 2 * math.prod(shape):
        raise ValueError(f"{path}: is cut short; {remedy}")
    try:
        array = np.lib.format.open_memmap(path, mode)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: is damaged ({error}); {remedy}") from None
    if array.shape != shape or array.dtype != np.float16:
        raise ValueError(f"{path}: holds {array.dtype} {array.shape}, not float16 {shape}; {remedy}")
    return array


def _done(folder: Path) -> int:
    """How many rows are there."""
    path = folder / "about.json"
    if not path.exists():
        return 0
    try:
        return int(json.loads(path.read_text())["done"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: is damaged ({error!r}); delete {folder} to compute it again") from None
