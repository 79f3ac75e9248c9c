"""Folders of images: with metadata.jsonl (diffusers, `datasets`), with a text beside each (kohya), or plain."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from humansd.build.item import Item
from humansd.build.layouts.records import ImageFinder, Listing, fresh, image_files, numbered, read_text, scene_of

METADATA = ("metadata.jsonl", "metadata.csv")
TEXT_SUFFIXES = (".txt", ".caption")
_NAMES = ("file_name", "image", "image_file", "file", "path")
_CAPTIONS = ("text", "caption", "prompt", "description", "captions")


def read_metadata_folder(folder: Path) -> Listing:
    """Images that a metadata.jsonl or .csv lists: file_name (or image), and text (or caption, prompt, description).

    diffusers' `conditioning_image`, a drawing, is not read: poses come from elsewhere. Images that no line names are
    told of, not used.
    """
    items, named = list[Item](), set[str]()
    for metadata in sorted(path for name in METADATA for path in folder.rglob(name)):
        near = ImageFinder(folder, [metadata.parent])
        for number, record in _lines(metadata):
            where = f"{metadata.relative_to(folder)}, line {number}"
            item = _from_line(record, near, where) if isinstance(record, dict) else None
            if item is None:
                items.append(fresh({"line": where}).drop("list", "a line that is no record", str(record)))
                continue
            items.append(item)
            named.add(item.origin.get("file", ""))
            conditioning = record.get("conditioning_image") or record.get("conditioning_image_file_name")
            if isinstance(conditioning, str):
                named.add(near.find(conditioning) or "")
    others = [path.relative_to(folder).as_posix() for path in image_files(folder)]
    unnamed = [name for name in others if name not in named]
    items += [fresh({"file": name}).drop("list", "an image that no line names", name) for name in unnamed]
    return Listing("metadata", folder, numbered(items))


def _from_line(record: dict[str, Any], finder: ImageFinder, where: str) -> Item | None:
    name = next((record[key] for key in _NAMES if isinstance(record.get(key), str)), None)
    if name is None:
        return None
    found = next((record[key] for key in _CAPTIONS if record.get(key)), "")
    texts = [text for text in (found if isinstance(found, list) else [found]) if isinstance(text, str) and text.strip()]
    caption = texts[0] if texts else ""
    file = finder.find(name)
    extras = {"captions": texts[1:]} if len(texts) > 1 else {}
    item = fresh({"file": file or name}, caption=caption, scene=scene_of(caption), extras=extras)
    return item if file else item.drop("list", "the image is missing", f"{where}: {name}")


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Number and content of each line; the text of one that cannot be read."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        if path.suffix == ".csv":
            yield from enumerate(csv.DictReader(stream), start=2)
            return
        for number, line in enumerate(stream, start=1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError):
                    yield number, line[:100]


def read_text_folder(folder: Path) -> Listing:
    """Images with a .txt or .caption of the same name beside them, at any depth, as kohya's trainers have them.

    An image without a text has no caption yet; a text without an image is told of.
    """
    items, texts = [], set[Path]()
    for path in image_files(folder):
        text = next((path.with_suffix(s) for s in TEXT_SUFFIXES if path.with_suffix(s).is_file()), None)
        texts |= {text} if text else set()
        caption = read_text(text) if text else ""
        name = path.relative_to(folder).as_posix()
        items.append(fresh({"file": name}, caption=caption, scene=scene_of(caption)))
    for path in sorted(path for s in TEXT_SUFFIXES for path in folder.rglob(f"*{s}")):
        if path not in texts and path.stem.lower() not in ("readme", "license", "licence"):
            name = path.relative_to(folder).as_posix()
            items.append(fresh({"text": name}).drop("list", "a text without an image", name))
    return Listing("texts", folder, numbered(items))


def read_plain_folder(folder: Path) -> Listing:
    """Images alone."""
    files = [path.relative_to(folder).as_posix() for path in image_files(folder)]
    return Listing("images", folder, numbered(fresh({"file": name}) for name in files))
