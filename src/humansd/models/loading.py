"""Parts of a diffusers folder or hub repository, always from safetensors and always in fp32."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import constants
from huggingface_hub.utils import get_session

Loaded = TypeVar("Loaded")

HUB_PATIENCE = 6.0  # seconds that the hub has to answer; its client alone would try every file for half a minute
HUB_MEMORY = 30.0  # seconds for which the answer holds


class HubError(OSError):
    """The hub does not answer, and the local cache cannot help; the message says so in one line."""


def load_part(kind: Any, source: str | os.PathLike[str], name: str = "", **options: Any) -> Any:
    """The part `name` of `source` (a folder or hub id) as class `kind`, fp32 unless `dtype` says otherwise.

    Without a name `source` is the part itself.

    Raises:
        OSError: no such part, none in safetensors, or a hub that does not answer.
    """
    place = {"subfolder": name} if name else {}
    settings = {**single_precision(options), **place, "use_safetensors": True}
    return from_hub(kind.from_pretrained, source, **settings)


def from_hub(load: Callable[..., Loaded], source: str | os.PathLike[str], **options: Any) -> Loaded:
    """`load(source, **options)`, `load` being a `from_pretrained`; where `source` is on the hub, with little patience.

    A hub that does not answer within `HUB_PATIENCE` seconds is not asked for each file again and again: what lies in
    the local cache is used, and nothing else.

    Raises:
        HubError: the hub does not answer, and the cache holds no copy.
        Exception: what `load` raises.
    """
    if not on_hub(source) or options.get("local_files_only") or constants.HF_HUB_OFFLINE or hub_answers():
        return load(source, **options)
    try:
        return load(source, **{**options, "local_files_only": True})
    except OSError as error:
        raise HubError(
            f"{source}: {constants.ENDPOINT} does not answer, and the local cache has no complete copy; connect to "
            "the network, or name a folder"
        ) from error


def on_hub(source: str | os.PathLike[str]) -> bool:
    """Whether `source` can only be a hub id: no file or folder of that name, and not the form of a path."""
    name = os.fspath(source)
    return not Path(name).exists() and name.count("/") <= 1 and not name.startswith((".", "/", "~"))


def hub_answers() -> bool:
    """Whether the hub answers at all, whatever it answers; asked once in `HUB_MEMORY` seconds."""
    if time.monotonic() - _asked["when"] > HUB_MEMORY:
        heard: list[bool] = []
        # In a thread, because looking up a name has no time limit of its own.
        asking = threading.Thread(target=lambda: heard.append(_ask()), daemon=True)
        asking.start()
        asking.join(HUB_PATIENCE)
        _asked.update(when=time.monotonic(), answers=bool(heard and heard[0]))
    return bool(_asked["answers"])


_asked: dict[str, float] = {"when": -HUB_MEMORY - 1, "answers": False}


def _ask() -> bool:
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_PATIENCE)
    except Exception:  # of the network library in use; any of them means that nobody is there
        return False
    return True


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
