"""OpenPose JSON: one image per file, `people[].pose_keypoints_2d` as x, y, score.

18 body joints are read as OpenPose-18. Of 25 (BODY_25) the 18 shared ones are used, with a warning; the mid
hip and the six foot points stay in the person's extra "body_25_rest" (flat x, y, score). Hands, face and all
other keys of a person are extras. A joint with score 0 is absent. `canvas_width` and `canvas_height` are read
and written; plain OpenPose output lacks them, so the caller gives the canvas. Key "humansd" holds what the
format has no place for: the skeleton, visibilities and areas.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from humansd.pose.checks import check_extras, check_name, shown, visibilities
from humansd.pose.coco import key_points
from humansd.pose.errors import PoseError, PoseWarning
from humansd.pose.files import MAX_IMAGES
from humansd.pose.people import MAX_PEOPLE, People
from humansd.pose.skeleton import COCO17, OPENPOSE18

_POINTS = "pose_keypoints_2d"
_OWN = {_POINTS, "humansd"}
# OpenPose-18 joint i is BODY_25 joint _FROM_25[i]; 8 is the mid hip, 19 to 24 are the feet.
_FROM_25 = (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)
_REST_25 = (8, 19, 20, 21, 22, 23, 24)


def read_openpose(data: Any, canvas: tuple[int, int] | None, stem: str) -> dict[str, People]:
    """Name -> People of one parsed frame, or of a list of frames; errors name the field."""
    if isinstance(data, dict):
        return dict([_frame(data, canvas, stem)])
    if len(data) > MAX_IMAGES:
        raise PoseError(f"{len(data)} frames, the limit is {MAX_IMAGES}", remedy="Split the file.")
    poses: dict[str, People] = {}
    for i, frame in enumerate(data):
        try:
            name, people = _frame(frame, canvas, stem if len(data) == 1 else f"{stem}_{i:04d}")
        except PoseError as error:
            raise error.at(None, f"[{i}]") from None
        if name in poses:
            raise PoseError(f"two frames are called {shown(name)}", field=f"[{i}]")
        poses[name] = people
    return poses


def frame_name(stem: str) -> str:
    """The image's name in a file's stem: OpenPose writes `<name>_keypoints.json`."""
    return stem.removesuffix("_keypoints")


def _frame(data: Any, canvas: tuple[int, int] | None, stem: str) -> tuple[str, People]:
    persons = data.get("people") if isinstance(data, dict) else None
    if not isinstance(persons, list):
        raise PoseError("is missing or not a list", field="people", remedy="Nobody is 'people': [].")
    if len(persons) > MAX_PEOPLE:
        raise PoseError(f"{len(persons)} people, the limit is {MAX_PEOPLE}", field="people", remedy="Split it.")
    own = data.get("humansd", {})
    if not isinstance(own, dict) or set(own) - {"name", "skeleton"}:
        raise PoseError("may hold only name and skeleton", field="humansd")
    named = own.get("skeleton", OPENPOSE18.name)
    skeleton = next((s for s in (OPENPOSE18, COCO17) if s.name == named), None)
    if skeleton is None:
        raise PoseError(
            f"{shown(named)} is not openpose18 or coco17",
            field="humansd.skeleton",
            remedy="Remove it.",
        )
    name = own.get("name", frame_name(stem))
    if not isinstance(name, str):
        raise PoseError(f"{shown(name)} is not a text", field="humansd.name", remedy="Remove it.")
    check_name(name, "humansd.name")
    size = _canvas(data, canvas)
    rows = []
    for i, person in enumerate(persons):
        try:
            rows.append(_person(person))
        except PoseError as error:
            raise error.at(None, f"people[{i}]") from None
    people = People.empty(size, OPENPOSE18)
    if rows:
        xy, score, seen, area, extras = zip(*rows, strict=True)
        people = People(np.stack(xy), np.stack(score), np.stack(seen), size, OPENPOSE18, np.array(area), tuple(extras))
    _warn_when_normalised(people)
    return name, people.to_skeleton(skeleton)


def write_openpose(name: str, people: People, stem: str) -> dict[str, Any]:
    """The JSON value of one frame; COCO-17 people get a neck, which reading takes away again."""
    if people.skeleton not in (OPENPOSE18, COCO17):
        raise PoseError(
            f"OpenPose JSON has no place for {people.skeleton.name!r}",
            field="skeleton",
            remedy="Use People.to_skeleton(COCO17) first.",
        )
    own: dict[str, Any] = {"skeleton": people.skeleton.name} if people.skeleton != OPENPOSE18 else {}
    if name != frame_name(stem):
        own["name"] = name
    body = people.to_skeleton(OPENPOSE18)
    return {
        "version": 1.3,
        "canvas_width": people.canvas[0],
        "canvas_height": people.canvas[1],
        "people": [_write_person(body, i) for i in range(body.n)],
    } | ({"humansd": own} if own else {})


def _canvas(data: dict[str, Any], canvas: tuple[int, int] | None) -> tuple[int, int]:
    found = (data.get("canvas_width"), data.get("canvas_height"))
    if found == (None, None):
        if canvas is None:
            raise PoseError(
                "is missing, and nothing else says how large the image is",
                field="canvas_width",
                remedy="Add canvas_width and canvas_height to the file, or give the canvas (width, height).",
            )
        return canvas
    if canvas is not None and tuple(canvas) != found:
        text = (
            f"the file says {shown(found[0])}x{shown(found[1])}; the given canvas {canvas[0]}x{canvas[1]} is not used"
        )
        warnings.warn(text, PoseWarning, stacklevel=2)
    return found  # type: ignore[return-value]  # People checks it


def _person(person: Any) -> tuple[Any, Any, Any, float, dict[str, Any]]:
    if not isinstance(person, dict):
        raise PoseError("is not a dict")
    value, k = person.get(_POINTS), len(OPENPOSE18)
    extras = {key: item for key, item in person.items() if key not in _OWN}
    if isinstance(value, list) and len(value) == 75:
        points = key_points(value, 25, _POINTS)
        extras["body_25_rest"] = points[list(_REST_25)].reshape(-1).tolist()
        points = points[list(_FROM_25)]
        text = "BODY_25 joints are read as 18; mid hip and feet are kept in extras['body_25_rest']"
        warnings.warn(text, PoseWarning, stacklevel=2)
    else:
        points = key_points(value, k, _POINTS)
    score = points[:, 2]
    if (score < 0).any() or (score > 1).any():
        raise PoseError(
            f"scores go from {score.min():g} to {score.max():g}", field=_POINTS, remedy="Scale them to 0..1."
        )
    own = person.get("humansd", {})
    if not isinstance(own, dict) or set(own) - {"visibility", "area"}:
        raise PoseError("may hold only visibility and area", field="humansd")
    seen = visibilities(own.get("visibility", np.where(score > 0, 2, 0)), (k,))
    area = own.get("area")
    if area is not None and (isinstance(area, bool) or not isinstance(area, (int, float)) or not 0 <= area < 1e300):
        raise PoseError(f"{shown(area)} is not a number of 0 or more", field="humansd.area")
    check_extras(extras)
    return points[:, :2], score, seen, float("nan") if area is None else float(area), extras


def _write_person(people: People, i: int) -> dict[str, Any]:
    extras = people.extras[i]
    clash = _OWN & set(extras)
    if clash:
        raise PoseError(
            f"the extra {sorted(clash)[0]!r} has the name of an OpenPose field",
            field=f"people[{i}]",
            remedy="Rename it in People.extras.",
        )
    own: dict[str, Any] = {}
    if not np.array_equal(people.visibility[i], np.where(people.score[i] > 0, 2, 0)):
        own["visibility"] = people.visibility[i].tolist()
    if not np.isnan(people.area[i]):
        own["area"] = float(people.area[i])
    flat = np.column_stack([people.xy[i], people.score[i]]).reshape(-1).tolist()
    return {_POINTS: flat} | extras | ({"humansd": own} if own else {})


def _warn_when_normalised(people: People) -> None:
    points = people.xy[people.labelled]
    if len(points) >= 4 and min(people.canvas) > 4 and points.min() >= 0 and points.max() <= 1:
        text = "all coordinates are in 0..1: if they are shares of the canvas, multiply them by its size first"
        warnings.warn(text, PoseWarning, stacklevel=2)
