"""What a layout's reader gives: items that know where their image is, and what had to be left out while reading."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from humansd.build.item import Item

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_TEXT_BYTES = 1 << 20  # of a caption's file
MAX_LIST_BYTES = 2 << 30  # of a file that lists a data set
# Human-Art's scenes: Ju et al., CVPR 2023; five of photographs, fifteen of paintings, drawings and statues.
SCENES = (
    *("acrobatics", "cosplay", "dance", "drama", "movie"),
    *("cartoon", "digital_art", "generated_images", "ink_painting", "kids_drawing", "mural", "oil_painting"),
    *("shadow_play", "sketch", "stained_glass", "ukiyoe", "watercolor"),
    *("garage_kits", "relief", "sculpture"),
)


class LayoutError(ValueError):
    """A folder or file that is of no layout known here, or of which nothing can be used; names it and the remedy."""


@dataclass(frozen=True, eq=False)
class Listing:
    """All that a folder or file holds, as a source of the pipeline.

    layout: its name. root: folder below which all files of its items lie. items: in a fixed order; those that could
    not even be listed are there, left out. notes: what a user should know of it besides.
    """

    layout: str
    root: Path
    items: Sequence[Item]
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.items)

    def item(self, index: int) -> Item:
        return self.items[index]

    def signature(self) -> dict[str, Any]:
        """Changes when an item is added, removed, or has another caption or pose; not when the folder is moved."""
        digest = hashlib.sha256()
        for item in self.items:
            people = None if item.people is None else item.people.to_json()
            known = [item.origin, item.caption, item.scene, item.source, item.license, people, item.extras]
            digest.update(json.dumps(known, sort_keys=True, default=str).encode())
        return {"layout": self.layout, "items": len(self.items), "digest": digest.hexdigest()[:32]}


def numbered(items: Iterable[Item]) -> list[Item]:
    """The items with their places as indices and keys."""
    return [item.but(index=place, key=f"{place:08d}") for place, item in enumerate(items)]


def fresh(origin: dict[str, Any], **known: Any) -> Item:
    """An item that `numbered` still has to number."""
    return Item(0, "", origin, **known)


def image_files(folder: Path) -> list[Path]:
    """All image files below a folder, hidden ones aside, in the order of their paths."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def stored_size(path: Path) -> tuple[int, int] | None:
    """(width, height) px of an image file, from its header; None where it has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")) as image:
                return image.size
    except Exception:  # damage makes Pillow raise nearly anything
        return None


def read_text(path: Path) -> str:
    """A caption's file as one line; "" where there is none. UTF-8, or what Windows wrote."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        data = stream.read(MAX_TEXT_BYTES)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    return " ".join(text.replace("\0", " ").split())


def read_json(path: Path) -> Any:
    """A JSON file; LayoutError naming it where it cannot be read."""
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise ValueError(f"more than {MAX_LIST_BYTES >> 30} GB; split it")
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise LayoutError(f"{path}: cannot be read ({error}); write it anew as JSON") from None


def scene_of(caption: str) -> str:
    """The scene that begins a prompt of HumanSD's kind ("oil_painting, a woman ..."); "" where none does."""
    first = caption.partition(",")[0].strip().lower().replace(" ", "_")
    return first if first in SCENES else ""


def scene_name(category: object) -> str:
    """A scene as written in a prompt, with "_" for blanks; "" for what is no text."""
    return "_".join(category.lower().split()) if isinstance(category, str) else ""


class ImageFinder:
    """Finds the files that a list names, whatever folder it names them from.

    A name is looked for as it stands below each of `roots`, then with its first folders taken away one by one.
    """

    def __init__(self, base: Path, roots: Sequence[Path]) -> None:
        self.base, self.roots = base.resolve(), [root.resolve() for root in roots]

    def find(self, name: str) -> str | None:
        """The path below `base`; None where there is no such file, or it lies elsewhere."""
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if ".." in parts or "\0" in name:
            return None
        for skipped in range(len(parts)):
            for root in self.roots:
                path = root.joinpath(*parts[skipped:])
                if path.is_file() and path.resolve().is_relative_to(self.base):
                    return path.resolve().relative_to(self.base).as_posix()
        return None
