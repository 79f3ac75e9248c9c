"""Webdataset tars: img2dataset's (image, .txt, .json), open_clip's (image, .txt), and our own shards."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from humansd.build.item import Item
from humansd.build.layouts.records import Listing, fresh, numbered, scene_of
from humansd.data.tar import Member, TarError, read_data, tar_members
from humansd.pose.errors import PoseError
from humansd.pose.people import People

_IMAGES = ("jpg", "jpeg", "png", "webp")
_TEXTS = ("txt", "caption", "text")
_MAX_TEXT = 4 << 20


def read_tars(root: Path, tars: list[Path]) -> Listing:
    """The samples of tar files below `root`; their images stay where they are until they are needed.

    A sample's caption is its .txt, else "caption" of its .json; a json that says "status" other than success is left
    out. Our own shards give people, scene, source and license as well. Reading goes on behind what is damaged.
    """
    items: list[Item] = []
    for tar in tars:
        damage: list[str] = []
        name = tar.relative_to(root).as_posix()
        with tar.open("rb") as stream:
            for members in _samples(tar_members(stream, damage), damage):
                items.append(_item(name, members, stream))
        items += [fresh({"tar": name}).drop("list", "damaged tar", text) for text in damage]
    return Listing("webdataset", root, numbered(items))


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
    image = next((members[kind] for kind in _IMAGES if kind in members), None)
    some = image or next(iter(members.values()))
    origin: dict[str, Any] = {"tar": tar, "name": some.name}
    if image is None:
        return fresh(origin).drop("list", "no image", some.name)
    origin |= {"at": image.data, "size": image.size}
    try:
        record = _record(members, stream)
        caption = _caption(members, record, stream)
    except (TarError, ValueError, RecursionError) as error:
        return fresh(origin).drop("list", "text or json cannot be read", f"{some.name}: {error}")
    if isinstance(record.get("url"), str):
        origin["url"] = record["url"]
    if record.get("status") not in (None, "success"):
        return fresh(origin).drop("list", "its download failed", str(record.get("error_message", record["status"])))
    if {"version", "people", "extras"} <= set(record):
        return _own(origin, record)
    return fresh(origin, caption=caption, scene=scene_of(caption))


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
    if "json" not in members:
        return {}
    record = json.loads(_bytes(members["json"], stream))
    if not isinstance(record, dict):
        raise ValueError("json is no record")
    return record


def _caption(members: dict[str, Member], record: dict[str, Any], stream: Any) -> str:
    kind = next((kind for kind in _TEXTS if kind in members), None)
    text = _bytes(members[kind], stream).decode("utf-8", "replace") if kind else record.get("caption") or ""
    return " ".join(text.replace("\0", " ").split()) if isinstance(text, str) else ""


def _bytes(member: Member, stream: Any) -> bytes:
    if member.size > _MAX_TEXT:
        raise ValueError(f"{member.name} has {member.size} bytes")
    return read_data(stream, member)
