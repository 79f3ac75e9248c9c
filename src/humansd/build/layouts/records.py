"""What a layout's reader gives: items that know where their image is, and what had to be left out while reading."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import unicodedata
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
        folders[:] = [name for name in folders if _plain_name(name)]
        yield place, folders, [name for name in names if _plain_name(name)]


def _plain_name(name: str) -> bool:
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


_SPLIT = re.compile(r"(?<![a-z])(?:train|val|test)", re.IGNORECASE)


@dataclass(frozen=True)
class _Match:
    """A file that a name could mean.

    sure: the name leads to it as it stands. shared: parts of the file's path that the name has too, from the last on,
    in any spelling, and in its own. whole: the name has no others.
    """

    file: str
    name: tuple[str, ...]
    sure: bool
    shared: tuple[int, int]
    whole: bool

    @property
    def rank(self) -> tuple[bool, tuple[int, int], bool]:
        return self.sure, self.shared, self.whole

    @property
    def foreign(self) -> bool:
        """Whether the name speaks of another folder than the file's."""
        return not self.sure and len(self.name) > 1 and self.shared[0] < 2


class ImageFinder:
    """Finds the files that a list names, whatever folder it names them from.

    A name is looked for as it stands below each of `roots`, then with its first folders taken away one by one, then
    anywhere below `base`, if one file alone is called so, be it with other capitals or accents in Unicode's other form.
    So cats/1.jpg may be found for dogs/1.jpg: a file is that of the name in `claim` which shares most of its path, and
    of none where two share as much; and in a folder that the list names, no file is taken for one of another folder.
    named_by: name of the list; what it says of the split (train, val, test) is not looked for in a folder of another.
    suffixes: tried behind names that have none of an image. beside: the finder of another list of the same images,
    with whose names these compete.
    """

    def __init__(
        self,
        base: Path,
        roots: Sequence[Path],
        named_by: str = "",
        suffixes: Sequence[str] = (),
        beside: ImageFinder | None = None,
    ) -> None:
        self.base, self.roots = base.resolve(), [root.resolve() for root in roots]
        self.named_by, self.suffixes = named_by, suffixes
        first = self.roots[0] if self.roots else self.base
        self._prefix = first.relative_to(self.base).parts if first.is_relative_to(self.base) else ()
        self._matches: dict[str, _Match | None] = {}
        self._claims: _Claims = _Claims() if beside is None else beside._claims

    def claim(self, names: Iterable[object]) -> ImageFinder:
        """Takes in all that the list names, before any of it is found; what is no text is passed over."""
        for name in names:
            if isinstance(name, str):
                self._claims.add(self._match(name))
        return self

    def find(self, name: str) -> str | None:
        """The path below `base`; None where there is no such file, it lies elsewhere, or it is another name's."""
        match = self._match(name)
        return match.file if match is not None and self._claims.allow(match) else None

    def _match(self, name: str) -> _Match | None:
        if name not in self._matches:
            plain = not name.lower().endswith(IMAGE_SUFFIXES)
            found = (self._match_of(name + suffix) for suffix in ("", *(self.suffixes if plain else ())))
            self._matches[name] = next((match for match in found if match is not None), None)
        return self._matches[name]

    def _match_of(self, name: str) -> _Match | None:
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        file, sure = ("", False) if not parts or ".." in parts or "\0" in name else self._file_of(parts)
        if not file:
            return None
        full = (*self._prefix, *parts)
        pairs = list(zip(reversed(full), reversed(file.split("/"))))
        exact = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        folded = sum(1 for _ in itertools.takewhile(lambda pair: _spelling(pair[0]) == _spelling(pair[1]), pairs))
        return _Match(file, full, sure, (folded, exact), folded >= len(parts))

    def _file_of(self, parts: list[str]) -> tuple[str, bool]:
        """The file, "" for none, and whether the name leads there from the first root as it stands."""
        try:
            for skipped in range(len(parts)):
                for root in self.roots:
                    path = root.joinpath(*parts[skipped:])
                    if path.is_file() and path.resolve().is_relative_to(self.base):
                        file = path.resolve().relative_to(self.base).as_posix()
                        return file, not skipped and root == self.roots[0]
        except OSError:  # a name longer than names may be
            return "", False
        return self._anywhere(parts) or "", False

    def unlisted(self, items: Iterable[Item]) -> tuple[str, ...]:
        """A note of the images that lie beside those of a list, and that it does not name."""
        named = {item.origin["file"]: item.left_out for item in items if "file" in item.origin}
        folders = {self.base / os.path.dirname(name) for name, left_out in named.items() if not left_out}
        beside = [path for one in folders for path in one.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
        count = sum(_plain_name(path.name) and path.relative_to(self.base).as_posix() not in named for path in beside)
        return (f"{count} images lie beside those of the list and are not in it",) if count else ()

    def missing(self, item: Item, name: str) -> Item:
        """The item, left out, since `find` knows no such file; says whether a link leads out of the folder."""
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        try:
            links = [root.joinpath(*parts[n:]) for root in self.roots for n in range(len(parts))]
            there = (path for path in links if path.is_file())
            link = next((path for path in there if not path.resolve().is_relative_to(self.base)), None)
        except (OSError, ValueError):
            link = None
        other = self._match(name)
        if link is None:
            more = f" ({other.file} is called so too, but may be another image)" if other is not None else ""
            return item.drop("list", "the image is missing", f"{name}{more}")
        return item.drop("list", "a link out of the folder", f"{name} leads to {link.resolve()}: {LINK_REMEDY}")

    def _anywhere(self, parts: list[str]) -> str | None:
        speaks = "/".join([self.named_by, *parts[:-1]])
        found = [path for path in self._named(parts[-1]) if same_split(speaks, str(Path(path).parent))]
        if len(found) > 1 and len(parts) > 1:
            folder = _spelling(parts[-2])
            found = [path for path in found if _spelling(Path(path).parent.name) == folder]
        return found[0] if len(found) == 1 else None

    def _named(self, name: str) -> list[str]:
        index = self._claims.index
        if index is None:
            index = self._claims.index = {}
            for path in image_files(self.base):
                if path.resolve().is_relative_to(self.base):
                    index.setdefault(_spelling(path.name), []).append(path.relative_to(self.base).as_posix())
        return index.get(_spelling(name), [])


def same_split(name: str, path: str) -> bool:
    """Whether two names do not speak of different ones of train, val and test."""
    one, other = ({word.lower() for word in _SPLIT.findall(text)} for text in (name, path))
    return not one or not other or bool(one & other)


class _Claims:
    """The files below a folder, and which names of one or several lists have them. index: spelling -> paths."""

    def __init__(self) -> None:
        self.index: dict[str, list[str]] | None = None
        self._best: dict[str, list[_Match]] = {}  # of each file the name that shares most of its path, and one more
        self._folders = set[str]()  # of files that are named with them

    def add(self, match: _Match | None) -> None:
        if match is None:
            return
        best = self._best.setdefault(match.file, [match])
        if match.rank > best[0].rank:
            best[:] = [match]
        elif match.rank == best[0].rank and len(best) < 2 and best[0].name != match.name:
            best.append(match)
        if match.shared[0] > 1:
            self._folders.add(os.path.dirname(match.file))

    def allow(self, match: _Match) -> bool:
        """Whether the file is that of this name."""
        if match.sure:
            return True
        others = [one for one in self._best.get(match.file, []) if one.name != match.name]
        if any(one.rank >= match.rank for one in others):
            return False
        return not (match.foreign and os.path.dirname(match.file) in self._folders)


def _spelling(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
