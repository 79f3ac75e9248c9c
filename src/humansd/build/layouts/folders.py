"""Folders of images: with metadata.jsonl (diffusers, `datasets`), with a text beside each (kohya), or plain."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from humansd.build.item import Item
from humansd.build.layouts.image_finder import ImageFinder
from humansd.build.layouts.records import (
    IMAGE_SUFFIXES,
    MAX_LIST_BYTES,
    LayoutError,
    Listing,
    decoded,
    files_below,
    first_lines,
    fresh,
    image_files,
    numbered,
    one_line,
    read_text,
    scene_of,
    unread_files,
)

METADATA = ("metadata.jsonl", "metadata.csv")
LIST_SUFFIXES = (".jsonl", ".csv", ".tsv")
_JSON_SUFFIXES = (".jsonl", ".json")
TEXT_SUFFIXES = (".txt", ".caption")
IMAGE_COLUMNS = (
    "file_name",
    "filename",
    "image",
    "image_file",
    "image_path",
    "img_path",
    "filepath",
    "file",
    "path",
    "target",
)
CAPTION_COLUMNS = ("text", "caption", "prompt", "description", "captions")
FEW = 20  # entries of a list, of which one must be of its kind: an odd first one costs itself alone
_CONDITIONS = ("conditioning_image", "conditioning_image_file_name", "source")  # drawings, of the last ControlNet's
_LABEL = re.compile(r"[\s0-9.eE+-]*")
_BOX = 5  # numbers of a line of a detector's labels: class, x, y, w, h
_KOHYA = {"caption", "tags", "train_resolution"}  # what its metadata says of an image
# Of JSON: the name of an image as a key, or what kohya's metadata says of one. COCO's lists have neither.
_NAMED = re.compile(rf'(?:{"|".join(map(re.escape, IMAGE_SUFFIXES))})"\s*:|:\s*\{{\s*"(?:{"|".join(_KOHYA)})"', re.I)
_REST = None  # key under which csv puts what is behind the last column


def read_metadata_folder(folder: Path, columns: tuple[str, str] = ("", "")) -> Listing:
    """Images that the metadata.jsonl or .csv files of a folder list, see `read_lists`."""
    return read_lists(folder, metadata_files(folder), columns)


def metadata_files(folder: Path) -> list[Path]:
    """The metadata.jsonl and metadata.csv of a folder and those below it; hidden ones aside."""
    return [path for path in files_below(folder, METADATA) if path.name in METADATA]


def read_lists(folder: Path, lists: Sequence[Path], columns: tuple[str, str] = ("", "")) -> Listing:
    """Images below `folder` that lists name by line: file_name (or image ...), and text (or caption, prompt ...).

    columns: of the image and of the caption, where they have other names; "" takes the first that is known. A line
    that names an image once more gives it another wording. diffusers' `conditioning_image`, a drawing, is not read:
    poses come from elsewhere. Images that no line names are told of, not used.
    """
    items, named = list[Item](), set[str]()
    places: dict[str, int] = {}
    seen, again, captioned = Counter[str](), 0, False
    records = [(path, number, record) for path in lists for number, record in _lines(path)]
    finders: dict[Path, ImageFinder] = {}
    for path in lists:
        other = next(iter(finders.values()), None)
        finders[path] = ImageFinder(folder, [path.parent], suffixes=IMAGE_SUFFIXES, beside=other)
    for path, _, record in records:
        if isinstance(record, dict):
            there = [name for name in _conditions(record) if os.path.isfile(path.parent / name)]
            finders[path].claim([_name_in(record, columns), *there])
    for path, number, record in records:
        finder = finders[path]
        where = f"{path.relative_to(folder) if path.is_relative_to(folder) else path.name}, line {number}"
        if not isinstance(record, dict):
            items.append(fresh({"line": where}).drop("list", "a line that is no record", f"{where}: {record}"))
            continue
        item = _from_line(record, finder, where, columns)
        seen.update(str(key) for key in record)
        captioned |= bool(item.caption)
        named |= {finder.find(name) or "" for name in _conditions(record)}
        file = item.origin.get("file", "")
        named.add(file)
        if item.left_out is None and file in places:
            items[places[file]] = _with_wordings(items[places[file]], item)
            again += 1
            continue
        if item.left_out is None:
            places[file] = len(items)
        items.append(item)
    others = [path.relative_to(folder).as_posix() for path in image_files(folder)]
    unnamed = [name for name in others if name not in named]
    items += [fresh({"file": name}).drop("list", "an image that no line names", name) for name in unnamed]
    items += unread_files(folder)
    return Listing("metadata", folder, numbered(items), _notes_of(seen, again, captioned, columns))


def _notes_of(seen: Counter[str], again: int, captioned: bool, columns: tuple[str, str]) -> tuple[str, ...]:
    notes = []
    if again:
        notes.append(f"{again} lines name an image that an earlier one names; their captions are other wordings of it")
    if seen and not captioned:
        wanted = columns[1] or ", ".join(CAPTION_COLUMNS)
        notes.append(
            f"no line has a caption: they have {', '.join(list(seen)[:12])}, and captions are read from {wanted}; "
            "name the column by --caption-column"
        )
    return tuple(notes)


def _from_line(record: dict[Any, Any], finder: ImageFinder, where: str, columns: tuple[str, str]) -> Item:
    known = ", ".join(str(key) for key in list(record)[:12] if key is not _REST)
    if _REST in record:
        text = f"{where}: more values than columns; a text with a comma needs quotes"
        return fresh({"line": where}).drop("list", "a line with too many values", text)
    name = _name_in(record, columns)
    if not name:
        wanted = columns[0] or ", ".join(IMAGE_COLUMNS)
        text = f"{where}: has {known or 'nothing'}; images are read from {wanted} (--image-column)"
        return fresh({"line": where}).drop("list", "a line that names no image", text)
    found = next((record[key] for key in _columns(columns[1], CAPTION_COLUMNS) if record.get(key)), "")
    texts = [one_line(text) for text in (found if isinstance(found, list) else [found]) if isinstance(text, str)]
    texts = [text for text in texts if text]
    caption = texts[0] if texts else ""
    file = finder.find(name)
    extras = {"captions": texts[1:]} if len(texts) > 1 else {}
    item = fresh({"file": file or name}, caption=caption, scene=scene_of(caption), extras=extras)
    return item if file else finder.missing(item, name).but(origin={"file": name, "line": where})


def _name_in(record: dict[Any, Any], columns: tuple[str, str]) -> str | None:
    return next((record[key] for key in _columns(columns[0], IMAGE_COLUMNS) if isinstance(record.get(key), str)), None)


def _conditions(record: dict[Any, Any]) -> list[str]:
    """The drawings that a record names."""
    names = [record[key] for key in _CONDITIONS if isinstance(record.get(key), str)]
    return [name for name in names if _is_image(name)]


def _columns(given: str, known: Sequence[str]) -> Sequence[str]:
    return (given,) if given else known


def _with_wordings(item: Item, other: Item) -> Item:
    """An item with the captions of another of the same image, each once."""
    texts = [item.caption, *item.extras.get("captions", []), other.caption, *other.extras.get("captions", [])]
    texts = list(dict.fromkeys(text for text in texts if text))
    if not texts:
        return item
    more = {"captions": texts[1:]} if len(texts) > 1 else {}
    return item.but(caption=texts[0], scene=item.scene or scene_of(texts[0]), extras={**item.extras, **more})


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Number and content of each line; the text of one that cannot be read. LayoutError for a file that is no text."""
    if path.stat().st_size > MAX_LIST_BYTES:
        raise LayoutError(f"{path}: more than {MAX_LIST_BYTES >> 30} GB; split it")
    text = decoded(path.read_bytes()).replace("\0", " ")
    if path.suffix.lower() not in _JSON_SUFFIXES:
        yield from _rows(text, path.suffix.lower() == ".tsv")
        return
    if path.suffix.lower() == ".json":
        records = _records(text)
        if records is not None:
            yield from enumerate(records, start=1)
            return
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, f"{line[:100]} ({error})"


def _records(text: str) -> list[Any] | None:
    """The records of JSON that is one list of them, or names of images with their captions, as kohya's trainers have
    them, an odd one as text; None for any other."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(data, list):
        return data
    if not isinstance(data, dict) or any(isinstance(data.get(name), str) for name in IMAGE_COLUMNS):
        return None  # the latter: the one record of JSON lines
    records = list[Any]()
    for name, value in data.items():
        if not isinstance(value, (str, dict)):
            records.append(f"{name}: {str(value)[:100]}")
            continue
        about: dict[str, Any] = value if isinstance(value, dict) else {"text": value}
        texts = [about[key] for key in ("caption", "tags", "text") if isinstance(about.get(key), str)]
        records.append({"file_name": name, "text": texts})
    return records


def _rows(text: str, tabs: bool) -> Iterator[tuple[int, Any]]:
    """The rows of a table under its header, divided as the header is: by commas, semicolons or tabs."""
    header = text.split("\n", 1)[0]
    marks = ("\t", ",", ";") if tabs else (",", ";", "\t")
    mark = max(marks, key=header.count)  # the first of those that occur most
    csv.field_size_limit(1 << 20)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=mark, strict=True, restkey=_REST)
    try:
        rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
    except csv.Error as error:
        yield 1, f"not the header of a table ({error})"
        return
    while True:
        try:
            yield rows.line_num + 1, next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield rows.line_num, f"not a row of a table ({error}); is a quote left open?"


def is_list(path: Path, columns: tuple[str, str] = ("", "")) -> bool:
    """Whether a table, JSON lines, or a JSON list of records or of captions by name, names images."""
    suffix = path.suffix.lower()
    if suffix not in (*LIST_SUFFIXES, ".json"):
        return False
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            return False
        start = first_lines(path)
    except OSError:
        return False
    wanted = _columns(columns[0], IMAGE_COLUMNS)
    if suffix not in _JSON_SUFFIXES:
        names = [name.strip(' "') for name in re.split(r"[,;\t]", start.split("\n", 1)[0].strip("\r"))]
        return any(name in names for name in wanted)
    lines = re.split(r"\r\n|\n|\r", start.strip())[:FEW]
    records = [_parsed(line) for line in lines]
    by_line = suffix == ".jsonl" or 2 * sum(isinstance(record, dict) for record in records) >= len(lines)
    if by_line and _are_of(records, wanted):
        return True
    return suffix == ".json" and _is_whole_list(path, start, wanted)


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _are_of(records: Sequence[Any], wanted: Sequence[str]) -> bool:
    """Whether one of the records names an image, and none says anything of its people, as lists of poses do."""
    known = [record for record in records if isinstance(record, dict)]
    if any({"joints", "keypoints", "people", "shapes", "annotations"} & set(record) for record in known):
        return False
    return any(isinstance(record.get(name), str) for record in known for name in wanted)


def _is_whole_list(path: Path, start: str, wanted: Sequence[str]) -> bool:
    """Whether a JSON file that begins like this is a list of records or of captions by name; only what may be one is
    parsed."""
    listed = start.lstrip().startswith("[") and any(f'"{name}"' in start for name in wanted)
    if not listed and not (start.lstrip().startswith("{") and _NAMED.search(start)):
        return False
    try:
        data = json.loads(decoded(path.read_bytes()))
    except (ValueError, RecursionError, OSError):
        return False
    if isinstance(data, list):
        return _are_of(data[:FEW], wanted)
    if not isinstance(data, dict) or isinstance(data.get("images"), list):
        return False
    entries = list(itertools.islice(data.items(), FEW))
    captions = any(_is_image(name) and isinstance(value, str) for name, value in entries)
    return captions or any(isinstance(value, dict) and value and set(value) <= _KOHYA for _, value in entries)


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def read_text_folder(folder: Path, texts: dict[Path, list[Path]] | None = None) -> Listing:
    """Images with a .txt or .caption of the same name beside them, at any depth, as kohya's trainers have them.

    An image with both has the .txt's caption and the other as another wording. An image without a text has no caption
    yet; a text without an image is told of. Texts that hold numbers alone are labels of a detector and no captions.
    texts: as of `texts_of`, if they are known.
    """
    texts = texts_of(folder) if texts is None else texts
    items, used = [], set[Path]()
    for path in image_files(folder):
        name = path.relative_to(folder).as_posix()
        beside = texts.get(path.with_suffix("")) or texts.get(path, [])
        used |= set(beside)
        items.append(_captioned(fresh({"file": name}), beside))
    for path in sorted(path for few in texts.values() for path in few if path not in used):
        if path.stem.lower() not in ("readme", "license", "licence", "classes"):
            name = path.relative_to(folder).as_posix()
            items.append(fresh({"text": name}).drop("list", "a text without an image", name))
    return Listing("texts", folder, numbered([*items, *unread_files(folder)]))


def texts_of(folder: Path) -> dict[Path, list[Path]]:
    """Path without suffix -> the texts of captions that are called so, .txt first; "a.jpg.txt" is one of "a.jpg"."""
    found: dict[Path, list[Path]] = {}
    for path in files_below(folder, TEXT_SUFFIXES):
        if not is_label(path):
            found.setdefault(path.with_suffix(""), []).append(path)
    for few in found.values():
        few.sort(key=lambda path: path.suffix.lower() != ".txt")
    return found


def _captioned(item: Item, texts: Sequence[Path]) -> Item:
    wordings = list(dict.fromkeys(text for text in map(read_text, texts) if text))
    if not wordings:
        return item
    more = {"captions": wordings[1:]} if len(wordings) > 1 else {}
    return item.but(caption=wordings[0], scene=item.scene or scene_of(wordings[0]), extras={**item.extras, **more})


def is_label(path: Path) -> bool:
    """Whether a text holds numbers alone, as many a line as a detector's label has: class and box, and joints."""
    try:
        with path.open("rb") as stream:
            lines = [line for line in stream.read(1 << 14).decode("latin-1").splitlines() if line.strip()]
    except OSError:
        return False
    return bool(lines) and all(_LABEL.fullmatch(line) and len(line.split()) >= _BOX for line in lines[:1])


def with_texts(listing: Listing) -> Listing:
    """The listing, its items without a caption having those of the texts beside their images."""
    bare = [item for item in listing.items if item.left_out is None and not item.caption.strip()]
    if not any("file" in item.origin for item in bare):
        return listing
    texts = texts_of(listing.root)

    def told(item: Item) -> Item:
        if item.left_out or item.caption.strip() or "file" not in item.origin:
            return item
        path = listing.root / item.origin["file"]
        return _captioned(item, texts.get(path.with_suffix("")) or texts.get(path, []))

    return Listing(listing.layout, listing.root, [told(item) for item in listing.items], listing.notes)


def with_captions(listing: Listing, lists: Sequence[Path], columns: tuple[str, str] = ("", "")) -> Listing:
    """The listing, its items having the captions that lists of images with captions have of them, as further wordings
    where they have one. A note tells how many lines are of no image of the listing."""
    if not lists:
        return listing
    found = read_lists(listing.root, lists, columns)
    known = {item.origin["file"]: item for item in found.items if item.left_out is None}
    used = {item.origin["file"] for item in listing.items if item.left_out is None and "file" in item.origin}
    wanted = used & set(known)
    items = [
        _with_wordings(item, known[item.origin["file"]]) if item.origin.get("file") in wanted else item
        for item in listing.items
    ]
    lines = [item for item in found.items if item.left_out is None or "line" in item.origin]
    spare = sum(item.origin.get("file") not in used for item in lines)
    names = ", ".join(path.name for path in lists)
    notes = (f"{spare} lines of {names} are of no image of the list and not used",) if spare else ()
    return Listing(listing.layout, listing.root, items, (*listing.notes, *found.notes, *notes))


def read_plain_folder(folder: Path) -> Listing:
    """Images alone."""
    files = [path.relative_to(folder).as_posix() for path in image_files(folder)]
    return Listing("images", folder, numbered([*(fresh({"file": name}) for name in files), *unread_files(folder)]))
