"""OpenPose JSON: one image a frame, `people[].pose_keypoints_2d` as x, y, score; all versions from 1.0 on.

18 body joints are read as OpenPose-18. Of 25 (BODY_25) the 18 shared ones are used, with a note; the mid hip and the
six foot points stay in the person's extra "body_25_rest" (flat x, y, score). 15 and 17 joints are read as OpenPose's
MPI and as COCO's. Hands, face and all other keys of a person are extras. A joint with score 0 is absent. `canvas_width`
and `canvas_height` (or width and height) are read; plain OpenPose output lacks them, so the caller gives the canvas.
Key "humansd" holds what the format has no place for: the skeleton, visibilities and areas.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from humansd.pose.assemble import Reading
from humansd.pose.beside import holds
from humansd.pose.checks import is_corner, shown
from humansd.pose.errors import PoseError
from humansd.pose.extras import POINT_KEYS
from humansd.pose.files import MAX_IMAGES
from humansd.pose.joints import OPENPOSE_ORDERS
from humansd.pose.orders import likelier
from humansd.pose.people import MAX_PEOPLE, People
from humansd.pose.raw import RawFrame, RawPerson, canvas_of
from humansd.pose.skeleton import COCO17, OPENPOSE18
from humansd.pose.units import decide

_POINTS = "pose_keypoints_2d"
_POINT_KEYS = (_POINTS, "pose_keypoints", "keypoints", "joints", "body_keypoints_2d")  # before 1.2, and others
_OWN = {_POINTS, "humansd"}
_SURE = frozenset((18, 25))


def openpose_frames(data: Any, stem: str, reading: Reading) -> list[RawFrame]:
    """The images of one parsed frame, or of a list of frames."""
    if isinstance(data, dict):
        return [_frame(data, stem, "")]
    if len(data) > MAX_IMAGES:
        raise PoseError(f"{len(data)} frames, the limit is {MAX_IMAGES}", remedy="Split the file.")
    frames = []
    for i, frame in enumerate(data):
        try:
            frames.append(_frame(frame, stem if len(data) == 1 else f"{stem}_{i:04d}", f"[{i}]"))
        except PoseError as error:
            reading.leave_out(error.at(None, f"[{i}]"))
    return frames


def flat_points(key: str, value: Any) -> Any:
    """An extra as it is, rows of hands, feet and faces as one flat list of x, y, score."""
    if key not in POINT_KEYS or not isinstance(value, list) or not value or not isinstance(value[0], list):
        return value
    rows = value[0] if len(value) == 1 and len(value[0]) > 4 and isinstance(value[0][0], list) else value
    if not all(isinstance(row, list) and len(row) in (2, 3) for row in rows):
        return value
    return [v for row in rows for v in (row if len(row) == 3 else [*row, 1.0])]


def by_number(people: dict[str, Any]) -> bool:
    """Whether it is people by their number in place of a list."""
    return bool(people) and all(key.isdecimal() and isinstance(one, dict) for key, one in people.items())


def frame_name(stem: str) -> str:
    """The image's name in a file's stem: OpenPose writes `<name>_keypoints.json`."""
    return stem.removesuffix("_keypoints")


def _frame(data: Any, stem: str, where: str) -> RawFrame:
    persons = data.get("people") if isinstance(data, dict) else None
    if isinstance(persons, dict) and by_number(persons):
        persons = list(persons.values())
    if not isinstance(persons, list):
        raise PoseError("is missing or not a list", field="people", remedy="Nobody is 'people': [].")
    if len(persons) > MAX_PEOPLE:  # before any of them is looked at
        raise PoseError(f"{len(persons)} people, the limit is {MAX_PEOPLE}", field="people", remedy="Split it.")
    own = data.get("humansd", {})
    if not isinstance(own, dict) or set(own) - {"name", "skeleton", "units"}:
        raise PoseError("may hold only name, skeleton and units", field="humansd")
    named = own.get("skeleton", OPENPOSE18.name)
    fixed = {s.name: s for s in (OPENPOSE18, COCO17)}.get(named) if isinstance(named, str) else None
    if fixed is None:
        raise PoseError(
            f"{shown(named)} is not openpose18 or coco17",
            field="humansd.skeleton",
            remedy="Remove it.",
        )
    name = own.get("name", frame_name(stem))
    if not isinstance(name, str):
        raise PoseError(f"{shown(name)} is not a text", field="humansd.name", remedy="Remove it.")
    skeleton = fixed if "skeleton" in own else None
    units = "pixels" if own.get("units") == "pixels" else None
    inside = f"{where}.people" if where else "people"
    read = [_read_person(person, f"{inside}[{i}]") for i, person in enumerate(persons)]
    for person in read:
        if skeleton is not None and holds(person.points, len(OPENPOSE18)):
            person.names = OPENPOSE18.joints  # as we wrote it; what is in the file is not asked
    return RawFrame(name, read, canvas_of(data), where, skeleton, units, frame_name(stem), OPENPOSE18)


def write_openpose(name: str, people: People, stem: str) -> dict[str, Any]:
    """The JSON value of one frame; COCO-17 people get a neck, which reading takes away again."""
    if people.skeleton not in (OPENPOSE18, COCO17):
        raise PoseError(
            f"OpenPose JSON has no place for {people.skeleton.name!r}",
            field="skeleton",
            remedy="Use People.to_skeleton(COCO17) first.",
        )
    body = people.to_skeleton(OPENPOSE18)
    plain = all(
        likelier(OPENPOSE18.name, xy, seen) == OPENPOSE18.name
        for xy, seen in zip(body.xy, body.visibility, strict=True)
    )
    plain = plain and people.skeleton == OPENPOSE18
    own: dict[str, Any] = {} if plain else {"skeleton": people.skeleton.name}
    if name != frame_name(stem):
        own["name"] = name
    if decide((people.xy[i][people.labelled[i]], people.canvas) for i in range(people.n)) != "pixels":
        own["units"] = "pixels"  # a reader would take them for another unit
    return {
        "version": 1.3,
        "canvas_width": people.canvas[0],
        "canvas_height": people.canvas[1],
        "people": [_write_person(body, i) for i in range(body.n)],
    } | ({"humansd": own} if own else {})


def _read_person(person: Any, where: str) -> RawPerson:
    if not isinstance(person, dict):
        return RawPerson(None, where, key="person", broken="is not a dict")
    key = next((k for k in _POINT_KEYS if person.get(k) is not None), _POINTS)
    extras = {k: flat_points(k, v) for k, v in person.items() if k not in (key, _POINTS, "humansd")}
    own = person.get("humansd", {})
    raw = RawPerson(person.get(key), where, key, orders=OPENPOSE_ORDERS, sure=_SURE, third="score", extras=extras)
    if key not in _POINT_KEYS[:2]:
        raw.third = "auto"
    if not isinstance(own, dict) or set(own) - {"visibility", "area"}:
        return RawPerson(None, where, key="humansd", broken="may hold only visibility and area")
    raw.own_seen = own.get("visibility")
    area = own.get("area")
    if area is not None and (isinstance(area, bool) or not isinstance(area, (int, float)) or not 0 <= area < 1e300):
        return RawPerson(None, where, key="humansd.area", broken=f"{shown(area)} is not a number of 0 or more")
    raw.area = float("nan") if area is None else float(area)
    return raw


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
    plain = np.array_equal(people.visibility[i], np.where(people.score[i] > 0, 2, 0))
    if not plain or is_corner(people.xy[i], people.visibility[i]):
        own["visibility"] = people.visibility[i].tolist()
    if not np.isnan(people.area[i]):
        own["area"] = float(people.area[i])
    flat = np.column_stack([people.xy[i], people.score[i]]).reshape(-1).tolist()
    return {_POINTS: flat} | extras | ({"humansd": own} if own else {})
