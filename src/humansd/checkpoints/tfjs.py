"""Weights of a TensorFlow.js model: `model.json`, whose manifest lists names, shapes and types, beside binary shards.

The format is that of the `weightsManifest` in the documentation of tfjs-converter. Only arrays are read: no graph is
run, and no file outside the folder of the JSON is opened.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_LARGEST_JSON = 64 * 2**20  # bytes
_LARGEST_SHARDS = 2**31  # bytes of all together
_TYPES = {"float32": "<f4", "int32": "<i4", "bool": "u1", "uint8": "u1", "uint16": "<u2", "float16": "<f2"}
_STEPS = ("uint8", "uint16")  # stored as steps of `scale` from `min` on


def read_tfjs_weights(file: Path) -> dict[str, Array]:
    """The weights of a model by name, float32 where they were stored as float16 or quantised.

    Args:
        file: the model's JSON, of a graph or layers model.

    Raises:
        OSError: no such file, or a shard is missing.
        ValueError: not such a JSON, a weight of an unknown type, or shards of another length than the manifest says.
    """
    weights: dict[str, Array] = {}
    read = 0
    for group in _manifest(file):
        parts = [_shard(file, path) for path in _listed(file, group, "paths")]
        read += sum(part.stat().st_size for part in parts)
        if read > _LARGEST_SHARDS:
            raise ValueError(f"{file}: its shards have more than {_LARGEST_SHARDS} bytes; give a smaller model")
        data = b"".join(part.read_bytes() for part in parts)
        start = 0
        for entry in _listed(file, group, "weights"):
            name, array, start = _weight(file, entry, data, start)
            weights[name] = array
        if start != len(data):
            raise ValueError(f"{file}: its shards have {len(data)} bytes where it lists {start}; copy them again")
    return weights


def _manifest(file: Path) -> list[Any]:
    if file.stat().st_size > _LARGEST_JSON:
        raise ValueError(f"{file}: more than {_LARGEST_JSON} bytes; give the JSON of a TensorFlow.js model")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        manifest = values["weightsManifest"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file}: no JSON of a TensorFlow.js model ({error}); give its model.json") from None
    if not isinstance(manifest, list) or not manifest:
        raise ValueError(f"{file}: its weightsManifest is no list; give the model.json of a TensorFlow.js model")
    return manifest


def _listed(file: Path, group: Any, key: str) -> list[Any]:
    found = group.get(key) if isinstance(group, dict) else None
    if not isinstance(found, list) or not found:
        raise ValueError(f"{file}: weightsManifest: a group without {key}; copy the model again")
    return found


def _shard(file: Path, path: Any) -> Path:
    if not isinstance(path, str) or Path(path).name != path or path in ("", ".", ".."):
        raise ValueError(f"{file}: weightsManifest names {path!r}; only files beside it are read")
    shard = file.parent / path
    if not shard.is_file():
        raise FileNotFoundError(f"{shard}: missing, and {file.name} names it; copy the whole folder")
    return shard


def _weight(file: Path, entry: Any, data: bytes, start: int) -> tuple[str, Array, int]:
    """Name, array and where the next one begins."""
    try:
        name, dtype, shape = entry["name"], entry["dtype"], tuple(entry["shape"])
        quantized = entry.get("quantization") or {}
        stored = quantized.get("dtype", dtype)
        step, least = float(quantized.get("scale", 1.0)), float(quantized.get("min", 0.0))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{file}: weightsManifest: an entry lacks {error}; copy the model again") from None
    fine = all(isinstance(side, int) and not isinstance(side, bool) and side >= 0 for side in shape)
    if not isinstance(name, str) or not fine or not math.isfinite(step) or not math.isfinite(least):
        raise ValueError(f"{file}: weightsManifest: {str(name)[:80]!r} has no usable shape or scale; copy it again")
    if stored not in _TYPES or dtype not in _TYPES:
        raise ValueError(f"{file}: {name}: weights of type {stored!r} are not read; those known: {', '.join(_TYPES)}")
    kind, count = np.dtype(_TYPES[stored]), math.prod(shape)
    end = start + count * kind.itemsize
    if end > len(data):
        raise ValueError(f"{file}: its shards end within {name}; copy them again")
    array: Array = np.frombuffer(data, kind, count, start).reshape(shape)
    if quantized and stored in _STEPS:
        array = (array * step + least).astype(np.float32)
    elif stored == "float16":
        array = array.astype(np.float32)
    elif dtype == "bool":
        array = array.astype(bool)
    return name, array, end
