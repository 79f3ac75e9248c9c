"""A model folder's own list of what is in it: `digests.json`, the sha256 of each file.

A flipped bit in a file of weights is a legal number and draws another picture; without the list nobody would know.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

LIST = "digests.json"
_KINDS = (".json", ".safetensors", ".txt", ".py", ".model")


def write_digests(folder: Path) -> None:
    """Writes the list of a finished folder: of the files directly in it and of those in its parts."""
    names = [file.relative_to(folder).as_posix() for file in _files(folder) if file.name != LIST]
    found = {name: _sha256_of(folder / name) for name in names}
    part = folder / f".{LIST}.part"
    part.write_text(json.dumps(found, indent=1) + "\n")
    part.replace(folder / LIST)


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
        if _sha256_of(folder / name) != digest:
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


def _sha256_of(path: Path) -> str:
    about = path.stat()
    return _sha256(path, about.st_size, about.st_mtime_ns, about.st_ino)


@functools.lru_cache(maxsize=1024)
def _sha256(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    """Of a file as long as it stays as it is; about a second for a gigabyte."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
