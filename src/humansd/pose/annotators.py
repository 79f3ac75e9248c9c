"""What annotation tools write: labelled points that belong to people by a group, or by the order of their labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from humansd.pose.assemble import Reading, note
from humansd.pose.coco_read import image_stem
from humansd.pose.errors import PoseError
from humansd.pose.joints import canonical, names_in_order
from humansd.pose.raw import RawFrame, RawPerson, canvas_of

_FEW = 3


def is_label_studio(value: Any) -> bool:
    """Whether it is a list of Label Studio's tasks, whole or as JSON-MIN."""
    tasks = value if isinstance(value, list) else [value]
    return bool(tasks) and all(isinstance(t, dict) for t in tasks[:100]) and any(_regions(t) for t in tasks[:100])


def label_studio_frames(value: Any, stem: str, reading: Reading) -> list[RawFrame]:
    """One image a task; x and y are percent of it. Points of one parent region are one person."""
    frames = []
    for i, task in enumerate(value if isinstance(value, list) else [value]):
        regions = _regions(task) if isinstance(task, dict) else []
        points, canvas = [], None
        for region in regions:
            inside: dict[str, Any] = region["value"] if isinstance(region.get("value"), dict) else region
            canvas = canvas or canvas_of(region)
            labels = inside.get("keypointlabels") or region.get("keypointlabels")
            if isinstance(labels, list) and labels and isinstance(labels[0], str) and {"x", "y"} <= set(inside):
                points.append((region.get("parentID"), labels[0], [inside["x"], inside["y"]]))
        if not points:
            reading.leave_out(PoseError("has no key point", field=f"[{i}]", remedy="Label points with joint names."))
            continue
        name = image_stem(_image_of(task)) if _image_of(task) else stem if len(value) == 1 else f"{stem}_{i:04d}"
        frames.append(
            RawFrame(name, grouped_people(points, f"[{i}]"), canvas, f"[{i}]", units="percent", image=_image_of(task))
        )
    return _unique(frames)


def is_labelme(value: Any) -> bool:
    """Whether it is one of labelme's files with points."""
    shapes = value.get("shapes") if isinstance(value, dict) else None
    return isinstance(shapes, list) and any(isinstance(s, dict) and "points" in s for s in shapes)


def labelme_frames(value: Any, stem: str, reading: Reading) -> list[RawFrame]:
    """Points of one group_id are one person; a rectangle of that group is the person's box."""
    points, boxes = [], {}
    for shape in value["shapes"]:
        corners = shape.get("points") if isinstance(shape, dict) else None
        if not isinstance(corners, list) or not corners:
            continue
        group = shape.get("group_id")
        if len(corners) == 1 and shape.get("shape_type", "point") == "point":
            points.append((group, str(shape.get("label")), corners[0]))
        elif len(corners) >= 2 and shape.get("shape_type") == "rectangle" and group is not None:
            boxes[group] = _box(corners)
    if not points:
        raise PoseError("holds no shape that is a point", field="shapes", remedy="Label points with joint names.")
    persons = grouped_people(points, "shapes", boxes)
    return [RawFrame(stem, persons, canvas_of(value), image=str(value.get("imagePath") or stem))]


def datumaro_frames(value: Any, stem: str, reading: Reading) -> list[RawFrame]:
    """Items with annotations of type points or skeleton; labels have their joints in `categories`."""
    categories = value.get("categories") if isinstance(value.get("categories"), dict) else {}
    labels = _entries(categories, "label", "labels")
    joints = {
        p.get("label_id"): p.get("labels") for p in _entries(categories, "points", "items") if isinstance(p, dict)
    }
    frames = []
    for i, item in enumerate(value["items"]):
        if not isinstance(item, dict):
            reading.leave_out(PoseError("is not a dict", field=f"items[{i}]"))
            continue
        persons = []
        for j, one in enumerate(item.get("annotations") or []):
            person = _datumaro_person(one, labels, joints, f"items[{i}].annotations[{j}]")
            if person is not None:
                persons.append(person)
        name = str(item.get("id") or f"{stem}_{i:04d}")
        size = item.get("image", {}).get("size") if isinstance(item.get("image"), dict) else None
        canvas = (size[1], size[0]) if isinstance(size, list) and len(size) == 2 else None  # (height, width) there
        frames.append(RawFrame(name, persons, canvas, f"items[{i}]", image=name))
    return frames


def _datumaro_person(one: Any, labels: list[Any], joints: dict[Any, Any], where: str) -> RawPerson | None:
    kind = one.get("type") if isinstance(one, dict) else None
    if kind == "points":
        listed = joints.get(one.get("label_id"))
        names = names_in_order(listed) if listed else ()
        points, seen = one.get("points"), one.get("visibility")
        pairs = [points[k : k + 2] for k in range(0, len(points), 2)] if isinstance(points, list) else None
        return RawPerson(pairs, where, "points", names=names, third="visibility", scores=seen)
    if kind == "skeleton":
        named = {}
        for element in one.get("elements") or []:
            pair = element.get("points") if isinstance(element, dict) else None
            index = element.get("label_id") if isinstance(element, dict) else None
            if isinstance(pair, list) and len(pair) >= 2 and type(index) is int and 0 <= index < len(labels):
                seen = (element.get("visibility") or [2])[0]
                named[str(labels[index].get("name"))] = [*pair[:2], seen]
        return RawPerson(named, where, "elements", third="visibility")
    return None


def _entries(categories: dict[str, Any], kind: str, key: str) -> list[Any]:
    inside = categories.get(kind)
    listed = inside.get(key) if isinstance(inside, dict) else None
    return listed if isinstance(listed, list) else []


def grouped_people(
    points: Iterable[tuple[Any, str, Any]], where: str, boxes: dict[Any, list[float]] | None = None
) -> list[RawPerson]:
    """People of (group, label, [x, y]); without groups the next person begins where a label comes again."""
    groups: dict[Any, dict[str, Any]] = {}
    parts: dict[Any, int] = {}
    for group, label, place in points:
        if not canonical(label) and not isinstance(place, list):
            continue
        key = (group, parts.get(group, 0))
        if label in groups.get(key, {}):
            parts[group] = parts.get(group, 0) + 1
            key = (group, parts[group])
        groups.setdefault(key, {})[label] = place
    if any(part for _, part in groups):
        note("labels come again without a group that says whose they are; each time the next person begins")
    persons = []
    for i, ((group, _), named) in enumerate(groups.items()):
        extras: dict[str, Any] = {"bbox": boxes[group]} if boxes and group in boxes else {}
        known = sum(bool(canonical(label)) for label in named)
        broken = (
            "" if known >= min(_FEW, len(named)) else f"none of its labels is a joint ({', '.join(list(named)[:4])})"
        )
        persons.append(RawPerson(named, f"{where}: person {i}", "labels", extras=extras, broken=broken))
    return persons


def _regions(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Label Studio's regions with key points, of annotations, predictions, or JSON-MIN's lists."""
    found: list[Any] = []
    for key in ("annotations", "completions", "predictions"):
        entries: list[Any] = task[key] if isinstance(task.get(key), list) else []
        found = _chosen([one for one in entries if isinstance(one, dict) and isinstance(one.get("result"), list)])
        if found:
            break
    if not found and "annotations" not in task:
        found = [
            r for v in task.values() if isinstance(v, list) for r in v if isinstance(r, dict) and "keypointlabels" in r
        ]
    return [r for r in found if isinstance(r, dict) and ("value" in r or "keypointlabels" in r)]


def _chosen(entries: list[dict[str, Any]]) -> list[Any]:
    """The regions of one annotator: of the ground truth, else of the first who did not cancel and labelled any."""
    kept = [one for one in entries if one.get("was_cancelled") is not True and one["result"]]
    kept.sort(key=lambda one: one.get("ground_truth") is not True)
    if len(kept) > 1:
        note("a task was annotated several times; its ground truth is read, or else the first of them")
    found: list[Any] = kept[0]["result"] if kept else []
    return found


def _image_of(task: Any) -> str:
    data = task.get("data") if isinstance(task.get("data"), dict) else task
    names = (data.get(key) for key in ("image", "img", "ocr", "file_upload"))
    name = next((n for n in names if isinstance(n, str)), "")
    local = name.partition("?d=")[2]  # /data/local-files/?d=folder/a.jpg
    return local.split("&")[0] or name.split("?")[0]


def _box(corners: list[Any]) -> list[float]:
    xs, ys = ([float(c[axis]) for c in corners] for axis in (0, 1))
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _unique(frames: list[RawFrame]) -> list[RawFrame]:
    """Names made different where two tasks have one image's name."""
    taken: set[str] = set()
    for i, frame in enumerate(frames):
        if frame.name in taken:
            frame.name = f"{frame.name}_{i:04d}"
        taken.add(frame.name)
    return frames
