"""COCO and Human-Art JSON, and lists of results, read: many images in one file, joints by name.

Annotations of an image belong together by `image_id`; joints have the names that `categories` lists, in any order and
spelling. A list of results ([{image_id, keypoints, score}], as detectors and AlphaPose write) has neither images nor
names. What Human-Art adds is `keypoints_21`; its key points may be a JSON text.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import numpy as np

from humansd.pose.assemble import Reading, note
from humansd.pose.checks import shown
from humansd.pose.coco import NAME_KEY, OWN_KEYS, image_names, is_humanart, is_id
from humansd.pose.errors import PoseError
from humansd.pose.files import MAX_IMAGES
from humansd.pose.joints import names_in_order
from humansd.pose.raw import RawFrame, RawPerson
from humansd.pose.skeleton import COCO17, HUMANART21, SKELETONS, Skeleton

_FILE_KEYS = ("filename", "name", "path", "coco_url", "flickr_url")  # in place of file_name


def coco_frames(data: dict[str, Any], stem: str, reading: Reading) -> list[RawFrame]:
    """The images of parsed COCO or Human-Art JSON."""
    annotations = _list(data, "annotations")
    categories = _categories(data)
    images = _usable_images(data, annotations, reading)
    names = image_names(images)
    by_image: dict[Any, list[RawPerson]] = {image["id"]: [] for image in images}
    art = is_humanart(data)
    for i, one in enumerate(annotations):
        try:
            person = _person(one, f"annotations[{i}]", categories, art)
            by_image[_image_of(one, by_image)].append(person)
        except PoseError as error:
            reading.leave_out(error.at(None, f"annotations[{i}]"))
    skeleton = _skeleton(data, annotations, art)
    units = "pixels" if data.get("humansd") == {"units": "pixels"} else None
    return [
        RawFrame(
            name,
            by_image[image["id"]],
            (image["width"], image["height"]) if "width" in image and "height" in image else None,
            f"images[{j}]",
            skeleton,
            units,
            image.get("file_name", ""),
        )
        for j, (name, image) in enumerate(zip(names, images, strict=True))
    ]


def result_frames(entries: list[Any], stem: str, reading: Reading) -> list[RawFrame]:
    """The images of a list of results, in the order in which they first occur."""
    grouped: dict[Any, list[RawPerson]] = {}
    for i, entry in enumerate(entries):
        try:
            if not isinstance(entry, dict):
                raise PoseError("is not a dict")
            image_id = entry.get("image_id")
            if not is_id(image_id):
                raise PoseError(f"{shown(image_id)} is not the id of an image", field="image_id", remedy="Add it.")
            extras = {key: value for key, value in entry.items() if key not in ("keypoints", "image_id")}
            person = RawPerson(entry.get("keypoints"), f"[{i}]", third="score", sure=frozenset((17,)), extras=extras)
        except PoseError as error:
            reading.leave_out(error.at(None, f"[{i}]"))
            continue
        grouped.setdefault(image_id, []).append(person)
    if len(grouped) > MAX_IMAGES:
        raise PoseError(f"holds {len(grouped)} images, the limit is {MAX_IMAGES}", remedy="Split it.")
    stems = {image_id: image_stem(image_id) for image_id in grouped}
    unique = len(set(stems.values())) == len(stems)
    return [RawFrame(stems[key] if unique else str(key), persons, image=str(key)) for key, persons in grouped.items()]


def image_stem(image_id: Any) -> str:
    """The name of an image that is known by its id or by its file."""
    path = PurePosixPath(str(image_id).replace("\\", "/"))
    return path.stem or str(image_id)


def _person(one: Any, where: str, categories: dict[Any, Any], art: bool) -> RawPerson:
    if not isinstance(one, dict):
        raise PoseError("is not a dict")
    extras = {key: value for key, value in one.items() if key not in OWN_KEYS}
    own = one.get("humansd", {})
    if not isinstance(own, dict) or set(own) - {"score", "filled"}:
        raise PoseError("may hold only score and filled", field="humansd")
    filled = own.get("filled", [])
    if not isinstance(filled, list) or not all(isinstance(key, str) for key in filled):
        raise PoseError("must be a list of names", field="humansd.filled")
    for key in filled:
        extras.pop(key, None)
    person = RawPerson(one.get("keypoints"), where, third="visibility", extras=extras, own_score=own.get("score"))
    person.area = _area(None if "area" in filled else one.get("area"))
    if art and "keypoints_21" in one:
        _take_21(person, one)
    elif art:
        person.names = HUMANART21.joints
    else:
        listed = categories.get(_key(one.get("category_id"), categories), categories[None])
        if isinstance(listed, PoseError):
            raise listed
        person.names = listed or ()
        person.unknown_names = 0 if listed else categories["unknown"]
    return person


def _take_21(person: RawPerson, one: dict[str, Any]) -> None:
    person.points, person.key, person.names = one["keypoints_21"], "keypoints_21", HUMANART21.joints
    plain = one.get("keypoints")
    if isinstance(plain, list) and isinstance(person.points, list) and plain != person.points[: len(plain)]:
        note("keypoints and keypoints_21 differ; keypoints_21 is used")


def _area(area: Any) -> float:
    """px^2; NaN where it is not known, as where tools write 0: a size of nothing would refuse every detection."""
    if area is None:
        return float("nan")
    if isinstance(area, bool) or not isinstance(area, (int, float)) or not 0 <= area < 1e300:
        raise PoseError(f"{shown(area)} is not a number of 0 or more", field="area")
    return float(area) if area > 0 else float("nan")


def _categories(data: dict[str, Any]) -> dict[Any, Any]:
    """Category id -> canonical joint names, or the error of its list; None: of annotations of any other category.

    "unknown": how many names are listed of which none is a joint's.
    """
    categories = [] if data.get("categories") is None else data["categories"]
    if not isinstance(categories, list):
        raise PoseError("is not a list", field="categories", remedy="Give a list, or leave it out.")
    found: dict[Any, Any] = {}
    unknown = 0
    for one in categories:
        if not isinstance(one, dict) or not one.get("keypoints"):
            continue
        try:
            names: Any = names_in_order(one["keypoints"], "categories.keypoints")
            unknown = 0 if names else len(list(one["keypoints"]))
        except PoseError as error:
            names = error
        if is_id(one.get("id")):
            found[one["id"]] = names
        found.setdefault(None, names)
    return {None: ()} | found | {"unknown": unknown}


def _skeleton(data: dict[str, Any], annotations: list[Any], art: bool) -> Skeleton | None:
    """The skeleton whose joints the file lists as they stand; None where joints go by name."""
    if art:
        return HUMANART21
    listed = [c.get("keypoints") for c in data.get("categories") or [] if isinstance(c, dict)]
    if len([names for names in listed if names]) != 1:
        return COCO17 if list(COCO17.joints) in listed else None
    for skeleton in SKELETONS.values():
        if list(skeleton.joints) in listed:
            # Human-Art files name 21 joints even where an annotation carries 17.
            short = skeleton == HUMANART21 and any(_count(a) == 51 for a in annotations)
            return COCO17 if short else skeleton
    return None


def _usable_images(data: dict[str, Any], annotations: list[Any], reading: Reading) -> list[dict[str, Any]]:
    if "images" not in data:
        ids = dict.fromkeys(a["image_id"] for a in annotations if isinstance(a, dict) and is_id(a.get("image_id")))
        images: list[Any] = [{"id": image_id, "file_name": str(image_id)} for image_id in ids]
    else:
        images = _list(data, "images")
    if len(images) > MAX_IMAGES:
        raise PoseError(f"holds {len(images)} images, the limit is {MAX_IMAGES}", field="images", remedy="Split it.")
    if not images:
        raise PoseError("holds no image", field="images", remedy="List each image, with or without people.")
    usable = []
    for j, image in enumerate(images):
        ok = isinstance(image, dict) and is_id(image.get("id"))
        if ok and not image.get("file_name"):
            name = next((image[k] for k in _FILE_KEYS if isinstance(image.get(k), str) and image[k]), None)
            image = image if name is None else image | {"file_name": name.split("?")[0]}
        texts = ok and all(isinstance(image.get(key, ""), str) for key in ("file_name", NAME_KEY))
        if texts and image.get("file_name"):
            usable.append(image)
        else:
            reading.leave_out(
                PoseError("needs an id and a file_name", field=f"images[{j}]", remedy="Add them, as COCO files have.")
            )
    return usable


def _image_of(one: dict[str, Any], by_image: dict[Any, Any]) -> Any:
    """The image that an annotation belongs to: the only one, where it does not say."""
    if "image_id" not in one and len(by_image) == 1:
        return next(iter(by_image))
    image_id = one.get("image_id")
    known = _key(image_id, by_image)
    if known is None:
        raise PoseError(
            f"{shown(image_id)} is not the id of an image",
            field="image_id",
            remedy="Give every annotation the id of an entry of 'images'.",
        )
    return known


def _key(value: Any, table: dict[Any, Any]) -> Any:
    """The key of a table that an id is, also where one of them is a text and the other a number; None without."""
    if not is_id(value):
        return None
    other = str(value) if isinstance(value, int) else int(value) if value.isdecimal() and len(value) < 20 else None
    return value if value in table else other if other in table else None


def _count(one: Any) -> int:
    """How many numbers an annotation's key points hold, as a list or as a JSON text; -1 when it cannot be told."""
    value = one.get("keypoints") if isinstance(one, dict) else None
    if isinstance(value, str):
        return value.count(",") + 1
    return len(value) if isinstance(value, (list, np.ndarray)) else -1


def _list(data: Any, field: str) -> list[Any]:
    value = data.get(field) if isinstance(data, dict) else None
    if not isinstance(value, list):
        raise PoseError("is missing or not a list", field=field, remedy="Give a whole COCO file (not a results list).")
    return value
