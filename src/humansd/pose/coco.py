"""COCO and Human-Art JSON: many images in one file.

Both hold `images` (file_name, width, height, id), `annotations` (keypoints as x, y, visibility) and
`categories`. Human-Art adds `keypoints_21` (COCO-17 plus fingers and toes); its key points may be a list or a
JSON text of one. What these formats have no place for (joint scores, which values were filled in) is kept
under the key "humansd" of an annotation; every other key of an annotation is one of the person's extras.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from humansd.pose.checks import check_extras, check_name, floats, shown
from humansd.pose.errors import PoseError, PoseWarning
from humansd.pose.files import MAX_IMAGES
from humansd.pose.people import MAX_PEOPLE, People
from humansd.pose.skeleton import COCO17, HUMANART21, SKELETONS, Skeleton

_NAME_KEY = "pose_name"
_MAX_TEXT = 200  # characters of a joint, of key points that are a JSON text
_OWN = {"keypoints", "num_keypoints", "keypoints_21", "num_keypoints_21", "area", "image_id", "humansd"}


def read_coco(data: Any, canvas: tuple[int, int] | None) -> dict[str, People]:
    """Name -> People of parsed COCO or Human-Art JSON; errors name the field, the caller adds the file."""
    images, annotations = _list(data, "images"), _list(data, "annotations")
    if len(images) > MAX_IMAGES:
        raise PoseError(f"holds {len(images)} images, the limit is {MAX_IMAGES}", field="images", remedy="Split it.")
    if not images:
        raise PoseError("holds no image", field="images", remedy="List each image, with or without people.")
    names = image_names(images)
    by_image: dict[Any, list[int]] = {image["id"]: [] for image in images}
    for i, note in enumerate(annotations):
        if not isinstance(note, dict):
            raise PoseError("is not a dict", field=f"annotations[{i}]")
        image_id = note.get("image_id")
        if not _is_id(image_id) or image_id not in by_image:
            raise PoseError(
                f"{shown(image_id)} is not the id of an image",
                field=f"annotations[{i}].image_id",
                remedy="Give every annotation the id of an entry of 'images'.",
            )
        by_image[image_id].append(i)
    skeleton = _skeleton(data, annotations)
    return {
        name: _one_image(image, f"images[{j}]", by_image[image["id"]], annotations, skeleton, canvas)
        for j, (name, image) in enumerate(zip(names, images, strict=True))
    }


def image_names(images: list[Any]) -> list[str]:
    """One name per image record: the file's stem; its path without suffix where stems collide."""
    for j, image in enumerate(images):
        ok = isinstance(image, dict) and _is_id(image.get("id"))
        texts = ok and all(isinstance(image.get(key, ""), str) for key in ("file_name", _NAME_KEY))
        if not texts or not image.get("file_name"):
            raise PoseError("needs an id and a file_name", field=f"images[{j}]", remedy="Add them, as COCO files have.")
    twice = [name for name, count in Counter(image["id"] for image in images).items() if count > 1]
    if twice:
        raise PoseError(f"id {shown(twice[0])} occurs twice", field="images", remedy="Give each image its own id.")
    paths = [
        PurePosixPath(check_name(image["file_name"], f"images[{j}].file_name").replace("\\", "/"))
        for j, image in enumerate(images)
    ]
    stems = [image.get(_NAME_KEY, path.stem) for image, path in zip(images, paths, strict=True)]
    for j, stem in enumerate(stems):
        check_name(stem, f"images[{j}].{_NAME_KEY}")
    count = Counter(stems)
    whole = [str(path.with_suffix("") if path.name else path) for path in paths]
    names = [s if count[s] == 1 else p for s, p in zip(stems, whole, strict=True)]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise PoseError(
            f"two images are called {shown(twice[0])}", field="images", remedy="Give each image its own file_name."
        )
    return names


def write_coco(poses: dict[str, People], records: dict[str, dict[str, Any]] | None, humanart: bool) -> dict[str, Any]:
    """The JSON value of a COCO (or Human-Art) file; all people must share one skeleton."""
    skeletons = {people.skeleton.name for people in poses.values()}
    if len(skeletons) > 1:
        raise PoseError(
            f"the skeletons {', '.join(sorted(skeletons))} do not fit one file",
            field="skeleton",
            remedy="Use People.to_skeleton first, or the npz format.",
        )
    skeleton = SKELETONS[skeletons.pop()] if skeletons else COCO17
    if humanart and skeleton not in (COCO17, HUMANART21):
        raise PoseError(
            f"Human-Art JSON has no place for {skeleton.name!r}",
            field="skeleton",
            remedy="Use People.to_skeleton(COCO17) first.",
        )
    images = _image_records(poses, records or {})
    taken = {e["id"] for people in poses.values() for e in people.extras if isinstance(e.get("id"), int)}
    notes: list[dict[str, Any]] = []
    for (name, people), image in zip(poses.items(), images, strict=True):
        boxes, areas = people.boxes(), people.areas()
        for i in range(people.n):
            fresh = len(notes) + 1
            while fresh in taken:
                fresh += 1
            taken.add(fresh)
            notes.append(_annotation(people, i, boxes[i], areas[i], image["id"], fresh, humanart, f"{name}[{i}]"))
    limbs = [[i + 1, j + 1] for i, j in skeleton.limbs]
    category = {"id": 1, "name": "person", "supercategory": "person"}
    category |= {"keypoints": list(skeleton.joints), "skeleton": limbs}
    return {"images": images, "annotations": notes, "categories": [category]}


def is_humanart(data: dict[str, Any]) -> bool:
    """True when parsed COCO-style JSON carries Human-Art's 21 joints."""
    notes = data.get("annotations")
    return isinstance(notes, list) and any(isinstance(a, dict) and "keypoints_21" in a for a in notes)


def _one_image(
    image: dict[str, Any],
    field: str,
    indices: list[int],
    annotations: list[Any],
    skeleton: Skeleton,
    canvas: tuple[int, int] | None,
) -> People:
    if len(indices) > MAX_PEOPLE:
        raise PoseError(f"{len(indices)} people, the limit is {MAX_PEOPLE}", field=field, remedy="Split it.")
    size = (image["width"], image["height"]) if "width" in image and "height" in image else canvas
    if size is None:
        raise PoseError("has no width and height", field=field, remedy="Add them, or give the canvas (width, height).")
    rows = []
    for i in indices:
        try:
            rows.append(_person(annotations[i], skeleton))
        except PoseError as error:
            raise error.at(None, f"annotations[{i}]") from None
    try:
        if not rows:
            return People.empty(size, skeleton)
        xy, score, seen, area, extras = zip(*rows, strict=True)
        return People(np.stack(xy), np.stack(score), np.stack(seen), size, skeleton, np.array(area), tuple(extras))
    except PoseError as error:
        raise error.at(None, field) from None


def _person(note: dict[str, Any], skeleton: Skeleton) -> tuple[Any, Any, Any, float, dict[str, Any]]:
    k = len(skeleton)
    extras = {key: value for key, value in note.items() if key not in _OWN}
    if skeleton == HUMANART21 and "keypoints_21" in note:
        points = key_points(note["keypoints_21"], k, "keypoints_21")
        if "keypoints" in note:
            plain = key_points(note["keypoints"], len(COCO17), "keypoints")
            if not np.array_equal(plain, points[: len(COCO17)]):
                warnings.warn("keypoints and keypoints_21 differ; keypoints_21 is used", PoseWarning, stacklevel=2)
    elif skeleton == HUMANART21 and _count(note.get("keypoints")) == 3 * len(COCO17):
        points = np.zeros((k, 3))
        points[: len(COCO17)] = key_points(note.get("keypoints"), len(COCO17), "keypoints")
    else:
        points = key_points(note.get("keypoints"), k, "keypoints")
    if not np.isin(points[:, 2], (0, 1, 2)).all():
        raise PoseError(
            "a visibility is not 0, 1 or 2",
            field="keypoints",
            remedy="Use 0 for absent, 1 for labelled but hidden and 2 for visible.",
        )
    own = note.get("humansd", {})
    if not isinstance(own, dict) or set(own) - {"score", "filled"}:
        raise PoseError("may hold only score and filled", field="humansd")
    filled = own.get("filled", [])
    if not isinstance(filled, list) or not all(isinstance(key, str) for key in filled):
        raise PoseError("must be a list of names", field="humansd.filled")
    for key in filled:
        extras.pop(key, None)
    score = floats(own.get("score", (points[:, 2] > 0).astype(float)), "humansd.score", (k,))
    area = note.get("area")
    if "area" in filled or area is None:
        area = float("nan")
    elif isinstance(area, bool) or not isinstance(area, (int, float)) or not 0 <= area < 1e300:
        raise PoseError(f"{shown(area)} is not a number of 0 or more", field="area")
    check_extras(extras)
    return points[:, :2], score, points[:, 2], float(area), extras


def key_points(value: Any, k: int, field: str) -> np.ndarray:
    """(k, 3) float64 from a flat list of 3 k finite numbers, or from a JSON text of one."""
    remedy = f"Give {k} joints as one list of {3 * k} numbers (x, y, value)."
    if isinstance(value, str):
        try:
            value = json.loads(value) if len(value) <= _MAX_TEXT * k else None
        except (ValueError, RecursionError):
            raise PoseError("is a text but not JSON", field=field, remedy=remedy) from None
    if not isinstance(value, list):
        problem = "is missing" if value is None else f"is {type(value).__name__}, not a list"
        raise PoseError(problem, field=field, remedy=remedy)
    if len(value) != 3 * k:
        raise PoseError(f"has {len(value)} numbers, not {3 * k}", field=field, remedy=remedy)
    if any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in value):
        raise PoseError("holds something that is not a number", field=field, remedy=remedy)
    try:
        points = np.array(value, np.float64).reshape(k, 3)
    except OverflowError:
        points = np.full((k, 3), np.inf)
    if not np.isfinite(points).all():
        raise PoseError("holds NaN or infinity", field=field, remedy="Write a missing joint as 0, 0, 0.")
    return points


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _count(value: Any) -> int:
    """How many numbers key points hold, as a list or as a JSON text; -1 when it cannot be told."""
    if isinstance(value, str):
        return value.count(",") + 1
    return len(value) if isinstance(value, list) else -1


def _skeleton(data: dict[str, Any], annotations: list[Any]) -> Skeleton:
    categories = data.get("categories", [])
    if not isinstance(categories, list):
        raise PoseError("is not a list", field="categories", remedy="Give a list, or leave it out.")
    if is_humanart(data):
        return HUMANART21
    listed = [c["keypoints"] for c in categories if isinstance(c, dict) and "keypoints" in c]
    for skeleton in (COCO17, *SKELETONS.values()):
        if list(skeleton.joints) in listed:
            # Human-Art files name 21 joints even where an annotation carries 17.
            short = skeleton == HUMANART21 and any(_count(a.get("keypoints")) == 51 for a in annotations)
            return COCO17 if short else skeleton
    if listed:
        raise PoseError(
            "lists joints that fit no known skeleton",
            field="categories.keypoints",
            remedy=f"Use the joints of {', '.join(SKELETONS)}, in their order.",
        )
    return COCO17


def _annotation(
    people: People, i: int, box: np.ndarray, size: float, image_id: Any, fresh: int, humanart: bool, field: str
) -> dict[str, Any]:
    extras = people.extras[i]
    clash = _OWN & set(extras)
    if clash:
        raise PoseError(
            f"the extra {sorted(clash)[0]!r} has the name of a COCO field",
            field=field,
            remedy="Rename it in People.extras.",
        )
    seen, area, known = people.visibility[i], float(size), not np.isnan(people.area[i])
    left, top, right, bottom = np.nan_to_num(box).tolist()
    defaults = {"id": fresh, "iscrowd": 0, "category_id": 1, "bbox": [left, top, right - left, bottom - top]}
    filled = [key for key in defaults if key not in extras] + ([] if known else ["area"])
    own: dict[str, Any] = {"filled": filled} if filled else {}
    if not np.array_equal(people.score[i], seen > 0):
        own["score"] = people.score[i].tolist()
    points = [[x, y, int(v)] for (x, y), v in zip(people.xy[i].tolist(), seen, strict=True)]
    flat = [number for point in points for number in point]
    note: dict[str, Any] = {"keypoints": flat[: 3 * len(COCO17)] if humanart else flat}
    note["num_keypoints"] = int((seen[: len(COCO17)] > 0).sum()) if humanart else int((seen > 0).sum())
    if humanart and people.skeleton == HUMANART21:
        note |= {"keypoints_21": flat, "num_keypoints_21": int((seen > 0).sum())}
    note |= {"area": 0.0 if np.isnan(area) else area, "image_id": image_id} | defaults | extras
    return note | ({"humansd": own} if own else {})


def _image_records(poses: dict[str, People], records: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    taken = {record.get("id") for record in records.values()}
    images = []
    for number, (name, people) in enumerate(poses.items(), 1):
        while number in taken:
            number += len(poses)
        record: dict[str, Any] = {"id": number, "file_name": f"{name}.png"} | records.get(name, {})
        taken.add(record["id"])
        record |= {"width": people.canvas[0], "height": people.canvas[1]}
        if PurePosixPath(record["file_name"].replace("\\", "/")).stem != name:
            record[_NAME_KEY] = name
        images.append(record)
    return images


def _list(data: Any, field: str) -> list[Any]:
    value = data.get(field) if isinstance(data, dict) else None
    if not isinstance(value, list):
        raise PoseError("is missing or not a list", field=field, remedy="Give a whole COCO file (not a results list).")
    return value
