"""What a layout's reader gives: items that know where their image is, and what had to be left out while reading."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from humansd.build.item import Item
from humansd.pose.extras import OTHER, POINT_KEYS
from humansd.pose.people import People

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
UNREAD_SUFFIXES = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd", ".tga", ".dng", ".cr2", ".nef", ".arw")
MAX_TEXT_BYTES = 1 << 20  # of a caption's file
MAX_LIST_BYTES = 2 << 30  # of a file that lists a data set
LINK_REMEDY = (
    "copy the folder with its links followed (cp -rL), or name the folder of the files (--images DIR of a list)"
)
# Human-Art's scenes: Ju et al., CVPR 2023; five of photographs, fifteen of paintings, drawings and statues.
SCENES = (
    *("acrobatics", "cosplay", "dance", "drama", "movie"),
    *("cartoon", "digital_art", "generated_images", "ink_painting", "kids_drawing", "mural", "oil_painting"),
    *("shadow_play", "sketch", "stained_glass", "ukiyoe", "watercolor"),
    *("garage_kits", "relief", "sculpture"),
)


_MORE = {*POINT_KEYS, OTHER, "body_25_rest"}  # of a person's extras: joints that the skeleton does not have


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


def files_below(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files below a folder with one of these suffixes, in any case, in the order of their paths; not hidden ones,
    nor those that macOS puts beside the files of an archive."""
    found = []
    for place, _, names in _walk(folder):
        found += [Path(place, name) for name in names if name.lower().endswith(tuple(suffixes))]
    return sorted(path for path in found if path.is_file())


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if plain_name(name)]
        yield place, folders, [name for name in names if plain_name(name)]


def plain_name(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def image_files(folder: Path) -> list[Path]:
    """All image files below a folder, hidden ones aside, in the order of their paths."""
    return files_below(folder, IMAGE_SUFFIXES)


def unread_files(folder: Path) -> list[Item]:
    """What looks like images and is not read, left out: files of other kinds, and folders that are links."""
    items = []
    for path in files_below(folder, UNREAD_SUFFIXES):
        name = path.relative_to(folder).as_posix()
        items.append(fresh({"file": name}).drop("list", "a kind of image that is not read", f"{name}: save it as PNG"))
    for place, folders, _ in _walk(folder):
        for path in (Path(place, name) for name in sorted(folders)):
            if path.is_symlink():
                name = path.relative_to(folder).as_posix()
                detail = f"{name}: import the folder that it leads to, or put that in its place"
                items.append(fresh({"link": name}).drop("list", "a folder that is a link", detail))
    return items


class Remarks:
    """What readers of poses say of files that they read nevertheless, one line for all alike."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._count = Counter[str]()
        self._more = 0

    @contextlib.contextmanager
    def of(self, where: str) -> Iterator[None]:
        """Keeps the warnings of its block, as said of `where`."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for text in dict.fromkeys(str(one.message) for one in caught):
            kind = re.sub(r"[-+.\d]+", "#", text)
            self._first.setdefault(kind, f"{where}: {text}")
            self._count[kind] += 1

    def bare(self, people: People) -> People:
        """The people without what only other tools need (segmentations, ids, boxes), and without those of no joint.

        Hands, faces and feet, which nothing here draws, are not stored either; it is counted how many had them.
        """
        self._more += sum(bool(_MORE & set(extras)) for extras in people.extras)
        bare = People(people.xy, people.score, people.visibility, people.canvas, people.skeleton, people.area)
        return bare.with_joints()

    def lines(self) -> tuple[str, ...]:
        """Each kind once, as it was said first, and how often it was said besides."""
        told = []
        for kind, text in self._first.items():
            again = self._count[kind] - 1
            if "extras[" not in text:  # of what `bare` leaves out
                told.append(f"{text} (and so of {again} more)" if again else text)
        if self._more:
            told.append(f"hands, faces, feet or other joints of {self._more} people are not stored")
        return tuple(told)


def outside_notes(items: Iterable[Item]) -> tuple[str, ...]:
    """A note of the joints that lie outside their images: they are kept, and what is cut from the image drops them."""
    joints = images = 0
    for item in items:
        if item.left_out or item.people is None or not item.people.n:
            continue
        people = item.people
        beyond = (people.xy < -0.5) | (people.xy > np.array(people.canvas) - 0.5)
        count = int((beyond.any(axis=2) & people.labelled).sum())
        joints, images = joints + count, images + bool(count)
    return (f"{joints} joints in {images} images lie outside their image; they are kept",) if joints else ()


def stored_size(path: Path) -> tuple[int, int] | None:
    """(width, height) px of an image file, from its header; None where it has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")) as image:
                return image.size
    except Exception:  # damage makes Pillow raise nearly anything
        return None


def upright_size(path: Path) -> tuple[int, int] | None:
    """(width, height) px of an image file as viewers show it, turned as its EXIF says; None where it has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")) as image:
                turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
                return image.size[::-1] if turned else image.size
    except Exception:  # damage makes Pillow raise nearly anything
        return None


def read_text(path: Path) -> str:
    """A caption's file as one line; "" where there is none. In any of `decoded`'s encodings."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return one_line(decoded(stream.read(MAX_TEXT_BYTES)))


def decoded(data: bytes) -> str:
    """A text in UTF-8 or UTF-16 with or without their mark; lines that are no UTF-8 in Windows' own encoding."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "\n".join(map(_decoded_line, data.removeprefix(b"\xef\xbb\xbf").split(b"\n")))


def _decoded_line(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


def first_lines(path: Path) -> str:
    """How a text begins, of which the last character may be cut off; only for names in ASCII. Raises OSError."""
    with path.open("rb") as stream:
        data = stream.read(1 << 16)
    utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    return data.decode("utf-16" if utf16 else "utf-8-sig", "ignore")


def one_line(text: str) -> str:
    """A text with single blanks for all white space."""
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
