"""Which image a list means by a name: of many files of one name, the one that lies where the list says."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from humansd.build.item import Item
from humansd.build.layouts.records import IMAGE_SUFFIXES, LINK_REMEDY, image_files, plain_name

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
        count = sum(plain_name(path.name) and path.relative_to(self.base).as_posix() not in named for path in beside)
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
