"""A model folder's own list of what is in it: `digests.json`, the sha256 of each file.

A flipped bit in a file of weights is a legal number and draws another image; without the list nobody would know.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from humansd.core.digests import file_sha256
from humansd.core.files import write_json

LIST = "digests.json"
_KINDS = (".json", ".safetensors", ".txt", ".py", ".model")


def write_digests(folder: Path) -> None:
    """Writes the list of a finished folder: of the files directly in it and of those in its parts."""
    names = [file.relative_to(folder).as_posix() for file in _files(folder) if file.name != LIST]
    found = {name: file_sha256(folder / name) for name in names}
    write_json(folder / LIST, found)


def check_digests(folder: Path, part: str = "") -> None:
    """Whether the files of a folder, or of one part of it, are those of its list. A folder without one is not checked.

    Raises:
        ValueError: the list is damaged, or a file is missing, was changed or was added since it was written; the
            message names it.
    """
    if not (folder / LIST).exists():
        return
    listed = _read_list(folder / LIST)
    for name, digest in listed.items():
        if part and not name.startswith(f"{part}/"):
            continue
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name}: is missing, and {LIST} names it; copy the whole folder again")
        if file_sha256(folder / name) != digest:
            raise ValueError(
                f"{folder / name}: is not what it was when the folder was written; copy it again, or delete "
                f"{folder / LIST} if you changed it"
            )
    parts = {name.split("/")[0] for name in listed if "/" in name}
    for name in sorted(parts & {part} if part else parts):
        for file in sorted((folder / name).iterdir()):
            if file.suffix in _KINDS and file.relative_to(folder).as_posix() not in listed:
                raise ValueError(
                    f"{file}: was added since the folder was written; take it away, or delete {folder / LIST} if you "
                    "added it"
                )


def _read_list(path: Path) -> dict[str, str]:
    try:
        values = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is damaged ({error}); copy the folder again") from None
    fine = isinstance(values, dict) and all(
        isinstance(digest, str) and not Path(name).is_absolute() and ".." not in Path(name).parts
        for name, digest in values.items()
    )
    if not fine or "model_index.json" not in values:
        raise ValueError(f"{path}: is damaged (not a list of files and digests); copy the folder again")
    return dict(values)


def _files(folder: Path) -> list[Path]:
    parts = [folder, *(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))]
    return sorted(file for part in parts for file in part.iterdir() if file.is_file() and file.suffix in _KINDS)


def networks_digest(networks: Iterable[nn.Module]) -> str:
    """A short digest of the names, types, shapes and values of all weights and buffers of `networks`, in their order.

    Those that run, be they from a folder, a hub or the package; on which device does not matter. A second or two for a
    gigabyte.
    """
    digest = hashlib.sha256()
    for network in networks:
        for name, value in sorted(network.state_dict().items()):
            plain = value.detach().cpu().contiguous()
            digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
            digest.update(plain.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
