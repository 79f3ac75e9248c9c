"""What a run stands on, told by content and not by name: digests of weights and of the configs beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from humansd.models.loading import weights_digest
from humansd.training.loop_settings import IDENTITIES

# Files of a part beside its weights that decide what it computes.
SMALL_FILES = ("config.json", "scheduler_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json")
WORDS = "merges.txt"


def digests(name: str, source: str | Path | None, parts: Iterable[str] = ("",)) -> dict[str, str]:
    """`NAME_weights` and `NAME_config`: digests of the safetensors of the folder `source`, and of the configs of its
    `parts`, "" being the folder itself. A hub id is its own digest; None is "none", "" is "untrained"."""
    if not source:
        text = "none" if source is None else "untrained"
        return {f"{name}_weights": text, f"{name}_config": text}
    return {f"{name}_weights": weights_digest(source), f"{name}_config": config_digest(source, parts)}


def config_digest(source: str | Path, parts: Iterable[str]) -> str:
    """A short digest of the configs, the noise schedule and the tokenizer of a folder's parts; a hub id is its own, and
    a file has none.

    Where a config was loaded from and which version wrote it do not count.
    """
    folder = Path(source)
    if folder.is_file():
        return "none"
    if not folder.is_dir():
        return str(source)
    digest = hashlib.sha256()
    for part in sorted(parts):
        for name in (*SMALL_FILES, WORDS):
            path = folder / part / name
            if path.is_file():
                digest.update(f"{part}/{name}\n".encode() + _content(path))
    return digest.hexdigest()[:16]


def _content(path: Path) -> bytes:
    if path.suffix != ".json":
        return path.read_bytes()
    values = json.loads(path.read_text())
    if isinstance(values, dict):
        values = {k: v for k, v in values.items() if not k.startswith("_") and not k.endswith("_version")}
    return json.dumps(values, sort_keys=True).encode()


def same_place(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the setting `name`, a folder or hub id, stands for the same in two records of a run: the digests agree
    where both know one, else the paths lead to one place."""
    for digest in IDENTITIES.get(name, ()):
        if digest in now:
            if digest in before:
                return before[digest] == now[digest]
            break
    old, new = str(before.get(name) or ""), str(now.get(name) or "")
    return bool(old) == bool(new) and Path(old).resolve() == Path(new).resolve()
