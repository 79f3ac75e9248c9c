"""From what adapters hand over to `People`: joints by name, units, scores, and the one rule for odd entries.

The rule: a person, frame or file that cannot be used is left out and counted in one note; only where nothing is left
the first of them is refused, by name. Scores outside 0..1 are clipped, with one note.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from humansd.pose.beside import holds
from humansd.pose.checks import check_canvas, check_extras, check_name, shown
from humansd.pose.errors import PoseError, PoseWarning
from humansd.pose.extras import OTHER
from humansd.pose.joints import JOINT_SETS
from humansd.pose.people import MAX_PEOPLE, People
from humansd.pose.points import Joints, joints_of
from humansd.pose.raw import RawFrame, RawPerson
from humansd.pose.skeleton import COCO17, HUMANART21, OPENPOSE18, Skeleton
from humansd.pose.units import UNITS, area_to_pixels, decide, extras_to_pixels, to_pixels

WHOLE_BODY = {"foot_kpts": (17, 23), "face_kpts": (23, 91), "lefthand_kpts": (91, 112), "righthand_kpts": (112, 133)}

_REST_25 = (8, *range(19, 25))  # the mid hip, and the feet


@dataclass
class Reading:
    """What the user says of a file, and what is noted while it is read.

    canvas: (width, height) px where the file names none; beside: the same of an image's name, from its file.
    units, joints: before what the file says. names: of the joints, where the file lists them once for everybody. odd:
    what was left out.
    """

    canvas: tuple[int, int] | None = None
    units: str | None = None
    joints: str | None = None
    beside: Callable[[str], tuple[int, int] | None] = lambda name: None
    names: tuple[str, ...] = ()
    odd: list[PoseError] = field(default_factory=list)
    used: int = 0

    def leave_out(self, error: PoseError) -> None:
        """Counts an entry that cannot be used."""
        self.odd.append(error)

    def close(self) -> None:
        """One note of what was left out; PoseError where nothing else was there."""
        if not self.odd:
            return
        if not self.used:
            raise self.odd[0]
        first = self.odd[0]
        where = f"{first.field}: " if first.field else ""
        many = "entry that cannot be used is" if len(self.odd) == 1 else "entries that cannot be used are"
        note(f"{len(self.odd)} {many} left out, {self.used} are read; the first: {where}{first.problem}")


def note(text: str) -> None:
    """Something the user should know of the file being read."""
    warnings.warn(text, PoseWarning, stacklevel=3)


def build(frames: Sequence[RawFrame], reading: Reading) -> dict[str, People]:
    """Name -> People of a file's frames; errors name the field, the caller adds the file."""
    parsed: list[tuple[RawFrame, tuple[int, int], list[tuple[RawPerson, Joints]]]] = []
    for frame in frames:
        if len(frame.persons) > MAX_PEOPLE:
            raise PoseError(
                f"{len(frame.persons)} people, the limit is {MAX_PEOPLE}", field=frame.where or "people",
                remedy="Split it.",
            )  # fmt: skip
        try:
            check_name(frame.name, "name")
            canvas = _canvas(frame, reading)
        except PoseError as error:
            reading.leave_out(error.at(None, frame.where or None))
            continue
        parsed.append((frame, canvas, _people_of(frame, reading)))
    units = _decide(parsed, reading)
    _note_assumed(parsed)
    everyone = [joints for _, _, persons in parsed for _, joints in persons]
    common = _skeleton(everyone) if everyone else None
    poses: dict[str, People] = {}
    clipped: list[float] = []
    for frame, canvas, persons in parsed:
        skeleton = frame.skeleton or common or frame.empty
        try:
            people = _assemble(canvas, persons, skeleton, frame.units or units, clipped, frame.skeleton is not None)
        except PoseError as error:
            reading.leave_out(error.at(None, frame.where or None))
            continue
        if frame.name in poses:
            raise PoseError(f"two frames are called {shown(frame.name)}", field=frame.where or None)
        reading.used += people.n
        poses[frame.name] = people
    if clipped:
        note(f"scores from {min(clipped):g} to {max(clipped):g} are clipped to 0..1")
    reading.close()
    return poses


def _people_of(frame: RawFrame, reading: Reading) -> list[tuple[RawPerson, Joints]]:
    found = []
    for person in frame.persons:
        try:
            check_extras(person.extras)
            if not person.names and holds(person.points, len(reading.names)):
                person.names = reading.names
            found.append((person, joints_of(person, reading.joints)))
            person.points = person.scores = None  # numbers now; a large file holds many
        except PoseError as error:
            reading.leave_out(error.at(None, person.where))
    return found


def _canvas(frame: RawFrame, reading: Reading) -> tuple[int, int]:
    if frame.canvas is not None:
        canvas = check_canvas(frame.canvas)
        if reading.canvas is not None and reading.canvas != canvas:
            given, said = (f"{c[0]}x{c[1]}" for c in (reading.canvas, canvas))
            note(f"the file says {said}; the given canvas {given} is not used")
        return canvas
    found = reading.canvas or reading.beside(frame.image or frame.name)
    if found is None:
        raise PoseError(
            "is missing, and nothing else says how large the image is",
            field="canvas_width",
            remedy="Add canvas_width and canvas_height to the file, or give the canvas (width, height): --canvas WxH.",
        )
    return check_canvas(found)


def _decide(parsed: Sequence[tuple[RawFrame, tuple[int, int], Any]], reading: Reading) -> str:
    if reading.units is not None:
        for frame, _, _ in parsed:
            frame.units = None
        return reading.units
    open_frames = [(canvas, persons) for frame, canvas, persons in parsed if frame.units is None]
    unit = decide((j.xy[j.seen > 0], canvas) for canvas, persons in open_frames for _, j in persons)
    if unit != "pixels":
        what = "all" if unit == "percent" else "most"
        note(f"coordinates are read as {UNITS[unit]}, where {what} of them lie; --units pixels (units=) overrides")
    return unit


def _note_assumed(parsed: Sequence[tuple[RawFrame, Any, list[tuple[RawPerson, Joints]]]]) -> None:
    for name in sorted({j.assumed for _, _, persons in parsed for _, j in persons if j.assumed}):
        joints = JOINT_SETS[name]
        note(
            f"names of the joints are missing; the {len(joints)} are taken in the order of {name} "
            f"({joints.source}); --joints (joints=) overrides"
        )
    if any(j.depth for _, _, persons in parsed for _, j in persons):
        note("the number behind x and y is a depth, as it is below 0 for many joints, and no score; it is not used")


def _skeleton(people: Sequence[Joints]) -> Skeleton:
    """The smallest skeleton with every joint of these that any skeleton knows, else COCO-17."""
    known = {n for names in {j.names for j in people} for n in names} & {
        n for s in (OPENPOSE18, HUMANART21) for n in s.joints
    }
    return next((s for s in (COCO17, OPENPOSE18, HUMANART21) if known <= set(s.joints)), COCO17)


def _assemble(
    canvas: tuple[int, int],
    persons: Sequence[tuple[RawPerson, Joints]],
    skeleton: Skeleton,
    unit: str,
    clipped: list[float],
    fixed: bool,
) -> People:
    n, k = len(persons), len(skeleton)
    xy, score, seen = np.zeros((n, k, 2)), np.zeros((n, k)), np.zeros((n, k), np.uint8)
    area, extras = np.full(n, np.nan), []
    for i, (person, joints) in enumerate(persons):
        scores = joints.score
        if scores.min() < 0 or scores.max() > 1:
            clipped += [float(scores.min()), float(scores.max())]
            scores = np.clip(scores, 0.0, 1.0)
        places = joints.xy
        if unit != "pixels":
            places = np.where((joints.seen > 0)[:, None], to_pixels(places, unit, canvas), places)
        if joints.names == skeleton.joints:
            xy[i], score[i], seen[i] = places, scores, joints.seen
        else:
            own = [a for a, name in enumerate(joints.names) if name in skeleton.joints]
            there = [skeleton.joints.index(joints.names[a]) for a in own]
            xy[i, there], score[i, there], seen[i, there] = places[own], scores[own], joints.seen[own]
        area[i] = area_to_pixels(person.area, unit, canvas)
        more = extras_to_pixels(person.extras, unit, canvas)
        extras.append(more | _others(joints, places, scores, skeleton, {"neck"} if fixed else set()))
    return People(xy, score, seen, canvas, skeleton, area, tuple(extras))


def _others(joints: Joints, xy: np.ndarray, score: np.ndarray, skeleton: Skeleton, dropped: set[str]) -> dict[str, Any]:
    """Joints that the skeleton lacks, as extras that move with their person; whole bodies in COCO-WholeBody's form."""
    if joints.names == skeleton.joints or set(joints.names) <= set(skeleton.joints) | dropped:
        return {}
    triples = np.column_stack([xy, score]).tolist()
    if joints.names == JOINT_SETS["wholebody133"].names or (len(triples) == 133 and joints.names[:17] == COCO17.joints):
        return {key: [v for row in triples[a:b] for v in row] for key, (a, b) in WHOLE_BODY.items()}
    if joints.names == JOINT_SETS["body25"].names:
        note("BODY_25 joints are read as 18; mid hip and feet are kept in extras['body_25_rest']")
        return {"body_25_rest": [v for i in _REST_25 for v in triples[i]]}
    rest = [a for a, name in enumerate(joints.names) if name not in skeleton.joints and joints.seen[a]]
    return {OTHER: {joints.names[a]: triples[a] for a in rest}} if rest else {}
