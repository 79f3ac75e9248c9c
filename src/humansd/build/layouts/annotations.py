"""Lists of images with poses: COCO's and Human-Art's JSON, and HumanSD's mapping file."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from humansd.build.item import Item
from humansd.build.layouts.records import (
    ImageFinder,
    LayoutError,
    Listing,
    fresh,
    numbered,
    read_json,
    scene_name,
    scene_of,
)
from humansd.pose.assemble import Reading, build
from humansd.pose.coco_read import coco_frames
from humansd.pose.errors import PoseError
from humansd.pose.people import People


def read_coco_json(path: Path, images: Path) -> Listing:
    """COCO or Human-Art JSON (17 or 21 joints; Human-Art's scene, description, author), its images below `images`.

    Captions: Human-Art's description, or those of COCO's captions file of the same split, which lies beside.
    A broken annotation costs its own image, no other.
    """
    data = read_json(path)
    finder = ImageFinder(images, [images, *likely_roots(images, path)])
    notes = defaultdict(list)
    for note in data.get("annotations", []):
        if isinstance(note, dict) and isinstance(note.get("image_id"), (int, str)):
            notes[note["image_id"]].append(note)
    texts, licenses = _captions(path), _licenses(data)
    known = {"categories": data.get("categories", [])}
    items = [
        _coco_item(record, notes.get(record["id"], []), known, texts, licenses, finder)
        if isinstance(record, dict) and isinstance(record.get("id"), (int, str)) and _named(record)
        else fresh({"entry": place}).drop("list", "an image without id or file_name", str(record))
        for place, record in enumerate(data["images"])
    ]
    return Listing("coco", images, numbered(items), _of_nobody(items))


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


def _coco_item(
    record: dict[str, Any],
    notes: list[dict[str, Any]],
    known: dict[str, Any],
    texts: dict[Any, list[str]],
    licenses: dict[Any, str],
    finder: ImageFinder,
) -> Item:
    described = record.get("description")
    captions = texts.get(record["id"]) or ([described] if isinstance(described, str) and described.strip() else [])
    file = finder.find(record["file_name"])
    origin = {"file": file or record["file_name"], "id": record["id"]}
    facts = {key: record[key] for key in ("author", "picture_name", "page_url", "coco_url") if record.get(key)}
    extras = {**({"captions": captions[1:]} if len(captions) > 1 else {}), **({"about": facts} if facts else {})}
    caption = captions[0] if captions else ""
    folder = PurePosixPath(record["file_name"]).parent.name  # of Human-Art's files the scene
    scene = scene_name(record.get("category")) or scene_of(caption) or scene_of(folder)
    told = {"caption": caption, "scene": scene, "license": licenses.get(record.get("license"), ""), "extras": extras}
    item = fresh(origin, **told)
    if file is None:
        return item.drop("list", "the image is missing", record["file_name"])
    kept = [note for note in notes if not note.get("iscrowd") or "keypoints_21" in note]
    try:
        with warnings.catch_warnings():  # joints outside the image are kept, as they are by `read_poses`
            warnings.simplefilter("ignore")
            reading = Reading(units="pixels")
            frames = coco_frames({**known, "images": [record], "annotations": kept}, "", reading)
            (people,) = build(frames, reading).values()
        people = _bare(people)
        if reading.odd:  # somebody without a pose would be learnt as background
            raise reading.odd[0]
    except PoseError as error:
        return item.drop("list", "the pose cannot be read", f"{record['file_name']}: {error}")
    without = sum(map(_is_person, notes)) - people.n
    more = {"people_without_pose": without} if without > 0 else {}
    return item.but(people=people, extras={**item.extras, **more})


def _is_person(note: dict[str, Any]) -> bool:
    return note.get("category_id", 1) == 1


def _bare(people: People) -> People:
    """The people without what only COCO's tools need (segmentation, ids, boxes), and without those of no joint."""
    bare = People(people.xy, people.score, people.visibility, people.canvas, people.skeleton, people.area)
    return bare.with_joints()


def _captions(path: Path) -> dict[Any, list[str]]:
    """image id -> captions, of the file of captions that belongs to a file of poses."""
    texts: dict[Any, list[str]] = defaultdict(list)
    names = {path.name.replace("person_keypoints", "captions"), "captions.json"} - {path.name}
    for other in sorted(path.parent / name for name in names):
        if other.is_file():
            for note in read_json(other).get("annotations", []):
                if isinstance(note, dict) and isinstance(note.get("caption"), str):
                    texts[note.get("image_id")].append(" ".join(note["caption"].split()))
            break
    return texts


def _licenses(data: dict[str, Any]) -> dict[Any, str]:
    found = data.get("licenses", [])
    return {one["id"]: str(one.get("name", "")) for one in found if isinstance(one, dict) and "id" in one}


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
    items = []
    for key, record in data.items():
        fields: list[Any] = (
            [record.get(name) for name in ("img_path", "prompt", "pose_path")] if isinstance(record, dict) else []
        )
        if len(fields) != 3 or not all(isinstance(value, str) for value in (fields[0], fields[1])):
            items.append(fresh({"entry": key}).drop("list", "no img_path or no prompt", str(record)))
            continue
        file, pose = finder.find(fields[0]), finder.find(fields[2]) if isinstance(fields[2], str) else None
        caption = " ".join(fields[1].split())
        item = fresh({"file": file or fields[0], "id": key}, caption=caption, scene=scene_of(caption))
        if file is None:
            item = item.drop("list", "the image is missing", fields[0])
        elif fields[2] and pose is None:
            item = item.drop("list", "the pose file is missing", str(fields[2]))
        elif pose:
            item = item.but(origin={**item.origin, "npz": pose})
        items.append(item)
    return Listing("mapping", images, numbered(items))


def kind_of_list(path: Path) -> str:
    """coco | mpii | mapping: what a JSON file is. LayoutError for any other."""
    data = read_json(path)
    if isinstance(data, dict) and isinstance(data.get("images"), list) and isinstance(data.get("annotations"), list):
        return "coco"
    first = next(iter(data), None) if isinstance(data, list) else next(iter(data.values()), None)
    if isinstance(data, list) and isinstance(first, dict) and "joints" in first and "image" in first:
        return "mpii"
    if isinstance(data, dict) and isinstance(first, dict) and "img_path" in first:
        return "mapping"
    raise LayoutError(
        f"{path}: is JSON of no known layout; give COCO's or Human-Art's ('images', 'annotations'), MPII's (a list "
        "with 'image', 'joints') or HumanSD's mapping file ('img_path', 'prompt', 'pose_path')"
    )
