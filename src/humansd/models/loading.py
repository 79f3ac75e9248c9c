"""Parts of a diffusers folder or hub repository, always from safetensors and always in fp32."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch


def load_part(kind: Any, source: str | os.PathLike[str], name: str = "", **options: Any) -> Any:
    """The part `name` of `source` (a folder or hub id) as class `kind`, fp32 unless `dtype` says otherwise.

    Without a name `source` is the part itself.

    Raises:
        OSError: no such part, or none in safetensors.
    """
    place = {"subfolder": name} if name else {}
    settings = {**single_precision(options), **place, "use_safetensors": True}
    return kind.from_pretrained(source, **settings)


def single_precision(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a `from_pretrained`, with fp32 where they name no `dtype` (or `torch_dtype`, its older name)."""
    return options if {"dtype", "torch_dtype"} & options.keys() else {**options, "dtype": torch.float32}


def weights_digest(source: str | os.PathLike[str]) -> str:
    """A short digest of all safetensors under a folder; a hub id is its own."""
    folder = Path(source)
    if not folder.is_dir():
        return str(source)
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        digest.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
