"""Lists of images with poses: COCO's and Human-Art's JSON, and HumanSD's mapping file."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from humansd.build.item import Item
from humansd.build.layouts.folders import FEW, is_list
from humansd.build.layouts.image_finder import ImageFinder
from humansd.build.layouts.records import (
    LayoutError,
    Listing,
    Remarks,
    fresh,
    numbered,
    one_line,
    read_json,
    scene_name,
    scene_of,
    upright_size,
)
from humansd.pose.assemble import Reading, build
from humansd.pose.coco_read import coco_frames
from humansd.pose.errors import PoseError
from humansd.pose.people import People

_KEY_POINTS = ("keypoints", "keypoints_21")
# How data sets call the category of people.
PEOPLE = ("person", "people", "persons", "human", "humans", "pedestrian", "body", "man", "woman")


def read_coco_json(path: Path, images: Path, joints: str | None = None, units: str | None = None) -> Listing:
    """COCO or Human-Art JSON (17 or 21 joints; Human-Art's scene, description, author), its images below `images`.

    Captions: the file's own, Human-Art's description, or those of COCO's captions file of the same split, which lies
    beside. Of a file without key points, as COCO's of captions or boxes, nobody knows who is in the images: people is
    None. A broken annotation costs its own image, no other. joints: a joint set, before the names that the file has.
    units: of the coordinates, if not pixels.
    """
    data = read_json(path)
    records = [record if _is_record(record) else None for record in data["images"]]
    finder = ImageFinder(images, [images, *likely_roots(images, path)], path.stem)
    finder.claim(record["file_name"] for record in records if record is not None)
    files: dict[Any, set[str]] = defaultdict(set)
    first: dict[str, Any] = {}  # file -> id of the first record that names it
    for record in records:
        if record is not None:
            files[_id(record["id"])].add(record["file_name"])
            first.setdefault(record["file_name"], _id(record["id"]))
    notes = defaultdict(list)
    orphans = 0
    for place, note in enumerate(data.get("annotations", [])):
        key = _id(note.get("image_id")) if isinstance(note, dict) else None
        if key in files:
            notes[first[min(files[key])]].append((place, note))
        orphans += key not in files
    texts = _captions(path, data)
    posed = "poses" in what_coco_has(data)
    known = _Known(data.get("categories", []), texts, _licenses(data), finder, joints, units, posed, Remarks())
    items = []
    done = set[str]()
    for place, record in enumerate(records):
        if record is None:
            text = str(data["images"][place])
            items.append(fresh({"entry": place}).drop("list", "an image without id or file_name", text))
            continue
        name, key = record["file_name"], _id(record["id"])
        bare = fresh({"file": name, "id": record["id"]})
        if len(files[key]) > 1:
            items.append(bare.drop("list", "an id that several images have", f"{name}: id {record['id']}"))
        elif name in done:
            items.append(bare.drop("list", "an image that is listed twice", f"{name}: all its people are in one"))
        else:
            items.append(_coco_item(record, notes.get(key, []), known))
        done.add(name)
    more = _odd_notes(orphans, items, [note for few in notes.values() for _, note in few], known)
    return Listing("coco", images, numbered(items), (*_of_nobody(items), *more, *known.remarks.lines()))


@dataclass(frozen=True)
class _Known:
    """What a file says once for all images. texts: image id -> captions. joints: a joint set, before its own names.
    posed: whether it has key points."""

    categories: Any
    texts: Mapping[Any, list[str]]
    licenses: Mapping[Any, str]
    finder: ImageFinder
    joints: str | None
    units: str | None
    posed: bool
    remarks: Remarks


def _id(value: Any) -> Any:
    """An id as text, as one file writes it as a number and the next as a text; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    return value.strip() if isinstance(value, str) else str(value)


def _is_record(record: Any) -> bool:
    return isinstance(record, dict) and _id(record.get("id")) is not None and _named(record)


def _odd_notes(orphans: int, items: Sequence[Item], notes: Sequence[dict[str, Any]], known: _Known) -> tuple[str, ...]:
    """What became of annotations that belong to no image or to no person, and of people who are there twice."""
    twice = sum(item.extras.get("people_listed_twice", 0) for item in items)
    strange = [note for note in notes if _has_points(note) and not _is_person(note, known)]
    others = sorted({str(note.get("category_id")) for note in strange})
    told = [f"{orphans} annotations name no image of the list and are not used"] if orphans else []
    if twice:
        told.append(f"{twice} people are listed twice with the same key points; one of each is kept")
    if others:
        told.append(f"{len(strange)} annotations are of other categories than people ({', '.join(others)})")
    return tuple(told)


def _has_points(note: dict[str, Any]) -> bool:
    points = note.get("keypoints")
    return any(points) if isinstance(points, list) else bool(points)


def _of_nobody(items: Sequence[Item]) -> tuple[str, ...]:
    """How many people the list names whose joints it does not say: they are seen in the images and have no pose."""
    missing = [item.extras["people_without_pose"] for item in items if "people_without_pose" in item.extras]
    if not missing:
        return ()
    return (
        f"{sum(missing)} people of the list have no key points and so no pose, in {len(missing)} of the images "
        "(people_without_pose in a sample's extras)",
    )


def _named(record: dict[str, Any]) -> bool:
    return isinstance(record.get("file_name"), str) and bool(record["file_name"])


def _coco_item(record: dict[str, Any], notes: Sequence[tuple[int, dict[str, Any]]], known: _Known) -> Item:
    """The item of an image; notes: place in the file and annotation of each of its people."""
    described = record.get("description")
    name = record["file_name"]
    captions = known.texts.get(_id(record["id"]), [])
    captions = captions or ([described] if isinstance(described, str) and described.strip() else [])
    file = known.finder.find(name)
    origin = {"file": file or name, "id": record["id"]}
    facts = {key: record[key] for key in ("author", "picture_name", "page_url", "coco_url") if record.get(key)}
    extras = {**({"captions": captions[1:]} if len(captions) > 1 else {}), **({"about": facts} if facts else {})}
    caption = captions[0] if captions else ""
    folder = PurePosixPath(name).parent.name  # of Human-Art's files the scene
    scene = scene_name(record.get("category")) or scene_of(caption) or scene_of(folder)
    license = known.licenses.get(_id(record.get("license")), "")
    item = fresh(origin, caption=caption, scene=scene, license=license, extras=extras)
    if file is None:
        return known.finder.missing(item, name)
    if not known.posed:
        return item
    persons, twice = _once([one for one in notes if _is_person(one[1], known) and not _is_crowd(one[1])])
    without = sum(_is_person(note, known) for _, note in notes) - len(persons) - twice
    posed = [one for one in persons if one[1].get("keypoints") or one[1].get("keypoints_21")]
    size = _size_of(record, known.finder.base / file)
    if size is None:
        return item.drop("list", "not a readable image", name)
    try:
        people = known.remarks.bare(_people(record | size, posed, known))
    except PoseError as error:
        return item.drop("list", "the pose cannot be read", f"{name}: {error}")
    without += len(persons) - people.n
    more = {"people_without_pose": without} if without > 0 else {}
    more |= {"people_listed_twice": twice} if twice else {}
    return item.but(people=people, extras={**item.extras, **more})


def _people(record: dict[str, Any], notes: Sequence[tuple[int, dict[str, Any]]], known: _Known) -> People:
    """The people of one image. PoseError where one of them cannot be read: somebody without a pose would be learnt as
    background; it names the annotation by its place in the file."""
    plain = {**record, "id": 0}
    texts = [{**note, "image_id": 0, "keypoints": _numbers(note.get("keypoints"))} for _, note in notes]
    with known.remarks.of(record["file_name"]):
        reading = Reading(units=known.units or "pixels", joints=known.joints)
        try:
            frames = coco_frames({"categories": known.categories, "images": [plain], "annotations": texts}, "", reading)
            (people,) = build(frames, reading).values()
        except PoseError as error:
            raise _placed(error, notes) from None
    if reading.odd:
        raise _placed(reading.odd[0], notes)
    if people.labelled.any() and people.xy[people.labelled].max() <= 1:
        raise PoseError("all joints lie in the first pixel", remedy="If they are shares of the image: --units shares.")
    return people


def _placed(error: PoseError, notes: Sequence[tuple[int, dict[str, Any]]]) -> PoseError:
    """The error with an annotation's place in its file for that among those of its image."""
    found = re.match(r"annotations\[(\d+)\]", error.field or "")
    if not found or error.field is None:
        return error
    place, note = notes[int(found[1])]
    own = f" (id {note['id']})" if "id" in note else ""
    field = f"annotations[{place}]{own}{error.field[found.end() :]}"
    return PoseError(error.problem, field=field, remedy=error.remedy)


def _numbers(points: Any) -> Any:
    """Key points as they are, but texts of numbers as numbers."""
    if isinstance(points, list) and any(isinstance(v, str) for v in points):
        try:
            return [float(v) for v in points]
        except (TypeError, ValueError):
            return points
    return points


def _size_of(record: dict[str, Any], file: Path) -> dict[str, int] | None:
    """Width and height, of the image's own header, as viewers show it, where a record has none; None where it has none
    either."""
    if all(record.get(key) not in (None, "", 0) for key in ("width", "height")):
        sizes = {key: _id(record[key]) for key in ("width", "height")}
        return {key: int(v) for key, v in sizes.items() if v is not None and v.isdecimal()}
    size = upright_size(file)
    return None if size is None else {"width": size[0], "height": size[1]}


def _once(notes: Sequence[tuple[int, dict[str, Any]]]) -> tuple[list[tuple[int, dict[str, Any]]], int]:
    """Each person once, and how many were there again with the very same key points."""
    seen, kept = set[str](), []
    for place, note in notes:
        points = note.get("keypoints_21") or note.get("keypoints")
        text = repr(points) if isinstance(points, list) and any(points) else f"at {place}"
        if text not in seen:
            seen.add(text)
            kept.append((place, note))
    return kept, len(notes) - len(kept)


def _is_crowd(note: dict[str, Any]) -> bool:
    """Whether it is a crowd without key points; Human-Art marks people so who have some."""
    return str(note.get("iscrowd", 0)).strip().lower() in ("1", "1.0", "true") and "keypoints_21" not in note


def _is_person(note: dict[str, Any], known: _Known) -> bool:
    """Whether it is of a category of people: the one that has joints, or is called so; COCO's is 1. A caption is
    not."""
    if isinstance(note.get("caption"), str) and not {*_KEY_POINTS, "bbox", "segmentation"} & set(note):
        return False
    categories = known.categories if isinstance(known.categories, list) else []
    named = [one for one in categories if isinstance(one, dict) and "id" in one]
    jointed = {_id(one["id"]) for one in named if one.get("keypoints")}
    called = {_id(one["id"]) for one in named if str(one.get("name", "")).strip().lower() in PEOPLE}
    chosen = (jointed & called) or jointed or called
    kind = _id(note.get("category_id"))
    if not chosen:
        return kind in (None, "1") or _has_points(note)
    return kind in chosen or kind is None or (_has_points(note) and kind not in {_id(one["id"]) for one in named})


def what_coco_has(data: dict[str, Any]) -> set[str]:
    """poses, captions: what the annotations of COCO's JSON tell, both, one or neither. Without a single annotation it
    is a list of poses where its categories have joints."""
    notes = [note for note in data.get("annotations", []) if isinstance(note, dict)]
    kinds = data.get("categories")
    jointed = isinstance(kinds, list) and any(isinstance(one, dict) and one.get("keypoints") for one in kinds)
    posed = any(key in note for note in notes for key in _KEY_POINTS) or (jointed and not notes)
    captioned = any(isinstance(note.get("caption"), str) for note in notes)
    return {name for name, has in (("poses", posed), ("captions", captioned)) if has}


def captions_file(path: Path) -> Path | None:
    """COCO's file of captions that lies beside its file of poses; None where there is none. Captions by the names of
    images, of whatever file, are lists of their own and no such file. LayoutError where it cannot be read."""
    split = re.search(r"(train|val|test)(\d{4})?", path.name)
    year = f"captions_{split[1]}{split[2] or 2017}.json" if split and "coco" in path.name else ""  # COCO-WholeBody's
    names = [path.name.replace("person_keypoints", "captions"), year, "captions.json"]
    beside = [path.parent / name for name in names if name and name != path.name]
    found = next((other for other in beside if other.is_file() and not is_list(other)), None)
    return found if found is not None and _notes_of_captions(read_json(found)) else None


def _notes_of_captions(data: Any) -> list[dict[str, Any]]:
    notes = data.get("annotations") if isinstance(data, dict) else None
    few = notes if isinstance(notes, list) else []
    return [note for note in few if isinstance(note, dict) and isinstance(note.get("caption"), str)]


def _captions(path: Path, data: dict[str, Any]) -> dict[Any, list[str]]:
    """image id -> captions, each once, of a list of images itself and of the file of captions that belongs to it."""
    other = captions_file(path)
    texts: dict[Any, dict[str, None]] = defaultdict(dict)
    for note in _notes_of_captions(data) + ([] if other is None else _notes_of_captions(read_json(other))):
        texts[_id(note.get("image_id"))][one_line(note["caption"])] = None
    return {key: list(few) for key, few in texts.items()}


def _licenses(data: dict[str, Any]) -> dict[Any, str]:
    found = data.get("licenses", [])
    named = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    return {_id(one["id"]): str(one.get("name", "")) for one in named if "id" in one}


def likely_roots(images: Path, path: Path) -> Iterator[Path]:
    """Where the images of a list usually lie: beside it, in images/, or in the folder of its split."""
    split = path.stem.rpartition("_")[2]
    for folder in (path.parent, images):
        yield from (folder / name for name in ("", "images", split, f"images/{split}"))


def read_mapping(path: Path, images: Path) -> Listing:
    """HumanSD's mapping file: id -> {img_path, prompt, pose_path}, poses as published npz; prompts begin with the
    scene."""
    data = read_json(path)
    finder = ImageFinder(images, [images, path.parent])
    known = [record for record in data.values() if isinstance(record, dict)]
    finder.claim(record.get(name) for record in known for name in ("img_path", "pose_path"))
    items = []
    for key, record in data.items():
        fields: list[Any] = (
            [record.get(name) for name in ("img_path", "prompt", "pose_path")] if isinstance(record, dict) else []
        )
        if len(fields) != 3 or not all(isinstance(value, str) for value in (fields[0], fields[1])):
            items.append(fresh({"entry": key}).drop("list", "no img_path or no prompt", str(record)))
            continue
        file, pose = finder.find(fields[0]), finder.find(fields[2]) if isinstance(fields[2], str) else None
        caption = one_line(fields[1])
        item = fresh({"file": file or fields[0], "id": key}, caption=caption, scene=scene_of(caption))
        if file is None:
            item = finder.missing(item, fields[0])
        elif fields[2] and pose is None:
            item = item.drop("list", "the pose file is missing", str(fields[2]))
        elif pose:
            item = item.but(origin={**item.origin, "npz": pose})
        items.append(item)
    return Listing("mapping", images, numbered(items))


def kind_of_list(path: Path, data: Any) -> str:
    """coco | mpii | mapping: what the content of a JSON file is. LayoutError for any other."""
    if isinstance(data, dict) and isinstance(data.get("images"), list) and isinstance(data.get("annotations"), list):
        return "coco"
    entries = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    few = [one for one in itertools.islice(entries, FEW) if isinstance(one, dict)]
    if isinstance(data, list) and any("joints" in one and "image" in one for one in few):
        return "mpii"
    if isinstance(data, dict) and any("img_path" in one for one in few):
        return "mapping"
    raise LayoutError(
        f"{path}: is JSON of no known layout; give COCO's or Human-Art's ('images', 'annotations'), MPII's (a list "
        "with 'image', 'joints') or HumanSD's mapping file ('img_path', 'prompt', 'pose_path')"
    )
