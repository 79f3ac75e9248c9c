"""Webdataset tars: img2dataset's (image, .txt, .json), open_clip's (image, .txt), others' alike, and our own shards."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from humansd.build.item import Item
from humansd.build.layouts.folders import CAPTION_COLUMNS
from humansd.build.layouts.records import Listing, decoded, fresh, numbered, one_line, scene_of
from humansd.data.tar import Member, TarError, read_data, tar_members
from humansd.pose.errors import PoseError
from humansd.pose.people import People

_IMAGES = ("jpg", "jpeg", "png", "webp")
_TEXTS = ("txt", "caption", "text")
_OTHERS = ("mask", "pose", "depth", "cond", "conditioning", "seg", "canny", "skeleton", "openpose")  # no photographs
_MAX_TEXT = 4 << 20


def read_tars(root: Path, tars: list[Path]) -> Listing:
    """The samples of tar files below `root`; their images stay where they are until they are needed.

    A sample's caption is its .txt, else "caption" of its .json (or "text", "prompt"); a json that says "status" other
    than success is left out. Members may be called twice, as image.jpg and caption.txt. Our own shards give people,
    scene, source and license as well. Reading goes on behind what is damaged.
    """
    items: list[Item] = []
    masks = 0
    for tar in tars:
        damage: list[str] = []
        name = tar.relative_to(root).as_posix()
        with tar.open("rb") as stream:
            for members in _samples(tar_members(stream, damage), damage):
                items.append(_item(name, members, stream))
                masks += "mask.png" in members and items[-1].people is not None
        items += [fresh({"tar": name}).drop("list", "damaged tar", text) for text in damage]
    note = f"{masks} samples have a mask of their people, which an import does not carry; `humansd data union` does"
    return Listing("webdataset", root, numbered(items), (note,) if masks else ())


def _samples(members: Iterator[Member | TarError], damage: list[str]) -> Iterator[dict[str, Member]]:
    sample: dict[str, Member] = {}
    now = None
    for member in members:
        if isinstance(member, TarError):
            damage.append(str(member))
            continue
        key, _, kind = os.path.basename(member.name).partition(".")
        if sample and (key != now or kind.lower() in sample):
            yield sample
            sample = {}
        now = key
        sample[kind.lower()] = member
    if sample:
        yield sample


def _item(tar: str, members: dict[str, Member], stream: Any) -> Item:
    images = _members(members, _IMAGES)
    some = next(iter(images or members.values()))
    origin: dict[str, Any] = {"tar": tar, "name": some.name}
    if images:
        origin |= {"at": some.data, "size": some.size}
    try:
        record = _record(members, stream)
        caption = _caption(members, record, stream)
    except (TarError, ValueError, RecursionError) as error:
        return fresh(origin).drop("list", "text or json cannot be read", f"{some.name}: {error}")
    if isinstance(record.get("url"), str):
        origin["url"] = record["url"]
    if record.get("status") not in (None, "success"):
        return fresh(origin).drop("list", "its download failed", str(record.get("error_message", record["status"])))
    if len(images) != 1:
        kinds = ", ".join(members)
        reason = "several images" if images else "no image"
        return fresh(origin).drop("list", reason, f"{some.name}: has {kinds}; call the image jpg, png or webp")
    if {"version", "people", "extras"} <= set(record):
        return _own(origin, record)
    return fresh(origin, caption=caption, scene=scene_of(caption))


def _members(members: dict[str, Member], kinds: Sequence[str]) -> list[Member]:
    """The member of one of these kinds, of the plain name before such as image.jpg; several, where it is not clear."""
    plain = next((members[kind] for kind in kinds if kind in members), None)
    if plain is not None:
        return [plain]
    longer = {kind.rpartition(".")[0]: one for kind, one in members.items() if kind.rpartition(".")[2] in kinds}
    return [one for word, one in longer.items() if word not in _OTHERS]


def _own(origin: dict[str, Any], record: dict[str, Any]) -> Item:
    """A sample of ours. Its mask is not carried along."""
    texts = {name: str(record.get(name, "")) for name in ("caption", "scene", "source")}
    texts["license"] = str(record.get("license", record.get("licence", "")))
    extras = {k: v for k, v in dict(record["extras"]).items() if k not in ("phash", "pixels", "mask")}
    if "origin" in extras:
        extras["before"] = extras.pop("origin")
    try:
        people = People.from_json(record["people"])
    except PoseError as error:
        return fresh(origin).drop("list", "the pose cannot be read", str(error))
    return fresh(origin, people=people, extras=extras, **texts)


def _record(members: dict[str, Member], stream: Any) -> dict[str, Any]:
    found = _members(members, ("json",))
    if len(found) != 1:
        return {}
    record = json.loads(_bytes(found[0], stream))
    if not isinstance(record, dict):
        raise ValueError("json is no record")
    return record


def _caption(members: dict[str, Member], record: dict[str, Any], stream: Any) -> str:
    texts = _members(members, _TEXTS)
    if texts:
        return one_line(decoded(_bytes(texts[0], stream)))
    text = next((record[key] for key in ("caption", *CAPTION_COLUMNS) if record.get(key)), "")
    return one_line(text) if isinstance(text, str) else ""


def _bytes(member: Member, stream: Any) -> bytes:
    if member.size > _MAX_TEXT:
        raise ValueError(f"{member.name} has {member.size} bytes")
    return read_data(stream, member)
