"""COCO and Human-Art JSON: many images in one file, written; `coco_read` reads them.

Both hold `images` (file_name, width, height, id), `annotations` (keypoints as x, y, visibility) and
`categories`. Human-Art adds `keypoints_21` (COCO-17 plus fingers and toes); its key points may be a list or a
JSON text of one. What these formats have no place for (joint scores, which values were filled in) is kept
under the key "humansd" of an annotation; every other key of an annotation is one of the person's extras.
"""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from humansd.pose.checks import check_name, is_corner, shown
from humansd.pose.errors import PoseError
from humansd.pose.people import People
from humansd.pose.skeleton import COCO17, HUMANART21, SKELETONS
from humansd.pose.units import decide

NAME_KEY = "pose_name"
OWN_KEYS = {"keypoints", "num_keypoints", "keypoints_21", "num_keypoints_21", "area", "image_id", "humansd"}


def image_names(images: list[Any]) -> list[str]:
    """One name per image record: the file's stem; its path without suffix where stems collide."""
    for j, image in enumerate(images):
        ok = isinstance(image, dict) and is_id(image.get("id"))
        texts = ok and all(isinstance(image.get(key, ""), str) for key in ("file_name", NAME_KEY))
        if not texts or not image.get("file_name"):
            raise PoseError("needs an id and a file_name", field=f"images[{j}]", remedy="Add them, as COCO files have.")
    twice = [name for name, count in Counter(image["id"] for image in images).items() if count > 1]
    if twice:
        raise PoseError(f"id {shown(twice[0])} occurs twice", field="images", remedy="Give each image its own id.")
    paths = [
        PurePosixPath(check_name(image["file_name"], f"images[{j}].file_name").replace("\\", "/"))
        for j, image in enumerate(images)
    ]
    stems = [image.get(NAME_KEY, path.stem) for image, path in zip(images, paths, strict=True)]
    for j, stem in enumerate(stems):
        check_name(stem, f"images[{j}].{NAME_KEY}")
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
    unit = decide((p.xy[i][p.labelled[i]], p.canvas) for p in poses.values() for i in range(p.n))
    own = {} if unit == "pixels" else {"humansd": {"units": "pixels"}}  # a reader would take them for another unit
    return {"images": images, "annotations": notes, "categories": [category]} | own


def is_humanart(data: dict[str, Any]) -> bool:
    """True when parsed COCO-style JSON carries Human-Art's 21 joints."""
    notes = data.get("annotations")
    return isinstance(notes, list) and any(isinstance(a, dict) and "keypoints_21" in a for a in notes)


def is_id(value: Any) -> bool:
    """Whether it may be the id of an image or a category."""
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _annotation(
    people: People, i: int, box: np.ndarray, size: float, image_id: Any, fresh: int, humanart: bool, field: str
) -> dict[str, Any]:
    extras = people.extras[i]
    clash = OWN_KEYS & set(extras)
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
    if not np.array_equal(people.score[i], seen > 0) or is_corner(people.xy[i], seen):
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
            record[NAME_KEY] = name
        images.append(record)
    return images
