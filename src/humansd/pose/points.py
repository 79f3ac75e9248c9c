"""A person's points as numbers, whatever form they are written in.

A tool writes points as one flat list, as rows, as dicts with x and y, as a dict of names, as two lists of x and y, or
as JSON text; with a score, a visibility or nothing behind them. All of that is read here, once.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from humansd.pose.checks import floats, visibilities
from humansd.pose.errors import PoseError
from humansd.pose.joints import ASSUMED, JOINT_SETS, canonical, names_in_order, sets_with, well_named
from humansd.pose.orders import likelier
from humansd.pose.point_dicts import by_number, columns, from_dict, name_of
from humansd.pose.raw import RawPerson

_MAX_TEXT = 60_000  # characters of key points that are a JSON text
_BELOW, _MANY = -0.05, 0.2  # a score below the first is none; so many of them, and none of the numbers is
_MISSING = "Write a missing joint as 0, 0, 0."


@dataclass(slots=True)
class Joints:
    """A person's points as numbers: xy (k, 2), score (k,) unclipped, seen (k,) of 0, 1 and 2, and their k names."""

    names: tuple[str, ...]
    xy: NDArray[np.float64]
    score: NDArray[np.float64]
    seen: NDArray[np.uint8]
    assumed: str = ""  # the joint set, where nothing but the count spoke for it
    depth: bool = False  # whether a number behind x and y was a depth


def joints_of(person: RawPerson, wanted: str | None) -> Joints:
    """The person's joints. wanted: a joint set's name, before what the file says. PoseError names `person.key`."""
    if person.broken:
        field = person.key if person.key != "person" else None
        raise PoseError(person.broken, field=field, remedy="Mend or remove that entry, or export it again.")
    rows, names = rows_of(person.points, person, wanted)
    assumed = counted = ""
    if wanted is not None:
        names = JOINT_SETS[wanted].names
        if len(names) != len(rows):
            raise _wrong_count(person.key, len(rows), len(names))
    elif not names and person.names:
        names = _fitting(person, len(rows))
    if not names:
        if len(rows) not in person.orders:
            raise _unnamed(person.key, len(rows), rows.shape[1])
        if person.unknown_names not in (0, len(rows)):
            raise _wrong_count(person.key, len(rows), person.unknown_names)
        counted = person.orders[len(rows)]
        assumed = "" if len(rows) in person.sure else counted
    xy, depth = rows[:, :2], False
    if rows.shape[1] == 3 and person.scores is None and _is_depth(rows[:, 2]):
        rows, depth = xy, True
    score, seen = _third(person, rows)
    if counted:
        meant = likelier(counted, xy, seen)
        names, assumed = JOINT_SETS[meant].names, assumed if meant == counted else meant
    if person.own_score is not None:
        score = floats(person.own_score, "humansd.score", (len(rows),))
    if person.own_seen is not None:
        seen = visibilities(person.own_seen, (len(rows),))
    return Joints(tuple(names), xy, score, seen, assumed, depth)


def rows_of(value: Any, person: RawPerson, wanted: str | None = None) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Points as rows (k, 2 or 3), a missing one as zeros, and the names that stand with them (() without)."""
    key = person.key
    if isinstance(value, np.ndarray):  # numbers already, as of large files
        return _folded(value, person, wanted), ()
    if isinstance(value, str):
        value = _from_text(value, key)
    names: Sequence[str] = ()
    if isinstance(value, dict):
        if isinstance(value.get("x"), list) and isinstance(value.get("y"), list):
            value = columns(value)
        else:
            names, value = list(value), list(value.values())
    if not isinstance(value, (list, tuple)):
        problem = "is missing" if value is None else f"is {type(value).__name__}, not a list"
        raise PoseError(problem, field=key, remedy=_remedy(person, wanted))
    while len(value) == 1 and isinstance(value[0], list):  # a batch of one
        value = value[0]
    if any(isinstance(v, dict) for v in value):
        named = [name_of(v) for v in value]
        names = names or (named if any(named) else ())
        value = value if names else by_number(value)
        value = [from_dict(v) for v in value]
    if any(isinstance(v, (list, tuple)) for v in value):
        rows = _padded([[0, 0, 0] if v is None else v for v in value], key, person, wanted)
    else:
        rows = _folded(value, person, wanted)
    if len(rows) == 0:
        raise PoseError("is missing", field=key, remedy=_remedy(person, wanted))
    texts = [name if isinstance(name, str) else "" for name in names]
    if wanted is None and not person.names and _are_words(texts) and not any(map(canonical, texts)):
        told = ", ".join(texts[:3])
        remedy = "Name them as COCO does, such as left_shoulder; `humansd pose formats` lists the joint sets."
        raise PoseError(f"names joints that are not known ({told} ...)", field=key, remedy=remedy)
    return rows, names_in_order(texts) if well_named(texts) else ()


def _are_words(texts: Sequence[str]) -> bool:
    """Whether joints bear names, and not numbers or letters of a series."""
    return len(texts) > 1 and all(len(text) > 2 and not any(c.isdigit() for c in text) for text in texts)


def _folded(value: Sequence[Any] | NDArray[Any], person: RawPerson, wanted: str | None) -> NDArray[np.float64]:
    """A flat list in rows of two, three or four."""
    k, n = _expected(person, wanted), len(value)
    if k and n in (2 * k, 3 * k, 4 * k):
        width = n // k
    elif k and len(person.names) < n / 3 and n // 3 in person.orders and n % 3 == 0:
        width = 3  # more points than names: whole bodies whose first joints are named
    elif k and person.names and wanted is None and _prefix(person, n):
        width = n // _prefix(person, n)
    elif k or n == 0:
        raise _wrong_numbers(person, n, k, wanted)
    else:
        width = _width(value, person)
    return _numbers(value, person, wanted).reshape(-1, width)


def _width(value: Sequence[Any] | NDArray[Any], person: RawPerson) -> int:
    """How many numbers a joint takes in a flat list without names; the format's own counts go first."""
    n = len(value)
    for orders in (person.orders, {len(s): s.name for s in JOINT_SETS.values()}):
        fits = [w for w in (3, 2, 4) if n % w == 0 and n // w in orders]
        if fits == [3, 2] or fits == [2, 3]:
            thirds = [v for v in value[2::3] if isinstance(v, (int, float))]
            return 3 if all(-1 <= v <= 2 for v in thirds) else 2
        if fits:
            return fits[0]
    raise _wrong_numbers(person, n, 0, None)


def _expected(person: RawPerson, wanted: str | None) -> int:
    return len(JOINT_SETS[wanted]) if wanted else len(person.names)


def _prefix(person: RawPerson, n: int) -> int:
    """Of a list of names longer than the points the length of the known set that it begins with; 0 if none."""
    for size in (n // 3, n // 2):
        if size in (n / 3, n / 2) and any(JOINT_SETS[s].names == person.names[:size] for s in sets_with(size)):
            return size
    return 0


def _fitting(person: RawPerson, count: int) -> tuple[str, ...]:
    """The file's names for so many points; those of a known set where it names only the first of them."""
    if len(person.names) == count:
        return person.names
    if len(person.names) > count:
        return person.names[:count]
    known = person.orders.get(count)
    if known and JOINT_SETS[known].names[: len(person.names)] == person.names:
        return JOINT_SETS[known].names
    raise _wrong_count(person.key, count, len(person.names))


def _padded(value: Sequence[Any], key: str, person: RawPerson, wanted: str | None) -> NDArray[np.float64]:
    if not all(isinstance(row, (list, tuple)) for row in value):
        raise PoseError("holds something that is not a number", field=key, remedy=_remedy(person, wanted))
    widths = {len(row) for row in value}
    if widths == {3 * _expected(person, wanted)} or not widths <= {1, 2, 3, 4}:
        raise PoseError(
            f"has rows of {min(widths)} to {max(widths)} numbers", field=key, remedy=_remedy(person, wanted)
        )
    width = max(2, max(widths))
    rows = [list(row) + [None] * (width - len(row)) if len(row) < 2 else list(row) for row in value]
    if any(len(row) != width for row in rows):  # a missing joint may be shorter
        rows = [row + [0 if not any(row) else 1] * (width - len(row)) for row in rows]
    return _numbers(list(itertools.chain(*rows)), person, wanted).reshape(-1, width)


def _numbers(value: Sequence[Any] | NDArray[Any], person: RawPerson, wanted: str | None) -> NDArray[np.float64]:
    if isinstance(value, np.ndarray):
        points = value.astype(np.float64)
    else:
        points = _array(value, person, wanted)
    if not np.isfinite(points).all():
        raise PoseError("holds NaN or infinity", field=person.key, remedy=_MISSING)
    return points


def _array(value: Sequence[Any], person: RawPerson, wanted: str | None) -> NDArray[np.float64]:
    if any(v is None for v in value):
        value = [0.0 if v is None else v for v in value]
    if value and all(isinstance(v, str) for v in value):  # of tools that know no numbers, as tables do not
        value = _spelt(value)
    if any(isinstance(v, bool) or not isinstance(v, (int, float, np.number)) for v in value):
        raise PoseError("holds something that is not a number", field=person.key, remedy=_remedy(person, wanted))
    try:
        return np.array(value, np.float64)
    except OverflowError:
        return np.full(len(value), np.inf)


def _spelt(value: Sequence[str]) -> Sequence[Any]:
    """Texts that are numbers, all of them, as numbers."""
    try:
        return [float(v) for v in value]
    except ValueError:
        return value


def _is_depth(third: NDArray[np.float64]) -> bool:
    """Whether the numbers behind x and y are no scores: a network's scores may dip below 0, and never for many. Where
    all that are below are -1, they say that a joint was not found."""
    below = third[third < _BELOW]
    return bool(len(below) >= _MANY * len(third) and (below != -1).any())


def _missing(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows stand for a joint that was not found: x and y both 0, or both -1 where others are in pixels."""
    xy = rows[:, :2]
    missing: NDArray[np.bool_] = ~xy.any(axis=1) | ((xy == -1).all(axis=1) & bool(np.abs(xy).max() > 2))
    return missing


def _third(person: RawPerson, rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Scores, and which joints are seen, of what stands behind or beside x and y."""
    own = person.own_seen is not None or person.own_score is not None
    gone = np.zeros(len(rows), bool) if own else _missing(rows)
    third = rows[:, 3] if rows.shape[1] == 4 else rows[:, 2] if rows.shape[1] == 3 else None
    if person.scores is not None:
        flat = person.scores[0] if _is_nested(person.scores) else person.scores
        third = _numbers(flat, RawPerson(None, person.where, "scores"), None) if isinstance(flat, list) else None
        if third is None or len(third) != len(rows):
            raise PoseError(f"are not {len(rows)} numbers", field="scores", remedy="Give one score a joint, or none.")
    if third is None:
        seen = np.where(gone, 0, 2)
        return (seen > 0).astype(float), seen.astype(np.uint8)
    kind = person.third
    whole = bool(third.min() >= 0 and third.max() <= 2 and not (third - np.rint(third)).any())
    if kind == "auto":
        kind = "visibility" if whole and third.max() == 2 else "score"
    if kind == "visibility":
        if whole:
            third = np.where(gone, 0, third)
            return (third > 0).astype(float), third.astype(np.uint8)
        odd = third[~np.isin(third, (0, 1, 2))]
        if (odd == np.rint(odd)).all():
            raise PoseError(
                "a visibility is not 0, 1 or 2",
                field=person.key,
                remedy="Use 0 for absent, 1 for labelled but hidden and 2 for visible.",
            )
    if whole:  # a visibility where a score belongs
        third = np.minimum(third, 1.0)
    third = np.where(gone, 0.0, third)
    return third, np.where(third > 0, 2, 0).astype(np.uint8)


def _is_nested(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 1 and isinstance(value[0], list)


def _from_text(text: str, key: str) -> Any:
    try:
        return json.loads(text) if len(text) <= _MAX_TEXT else None
    except (ValueError, RecursionError):
        raise PoseError("is a text but not JSON", field=key, remedy="Give 17 joints as one list of numbers.") from None


def _remedy(person: RawPerson, wanted: str | None) -> str:
    k = _expected(person, wanted) or next(iter(person.orders), 17)
    return f"Give {k} joints as one list of {3 * k} numbers (x, y, value)."


def _wrong_numbers(person: RawPerson, n: int, k: int, wanted: str | None) -> PoseError:
    if n == 0:
        return PoseError("is missing", field=person.key, remedy=_remedy(person, wanted))
    size = k or next(iter(person.orders), 17)
    remedy = f"{_remedy(person, wanted)} {_sets_hint([n // w for w in (3, 2) if n % w == 0])}".strip()
    return PoseError(f"has {n} numbers, not {3 * size}", field=person.key, remedy=remedy)


def _wrong_count(key: str, count: int, wanted: int) -> PoseError:
    hint = _sets_hint([count]) or "`humansd pose formats` lists the joint sets."
    return PoseError(f"has {count} joints, not {wanted}", field=key, remedy=hint)


def _unnamed(key: str, count: int, width: int) -> PoseError:
    first = next(iter(ASSUMED))
    hint = f"Give {first} joints as one list of {3 * first} numbers (x, y, value). {_sets_hint([count])}".strip()
    problem = f"has {count * width} numbers, not {3 * first}, and the file does not name its joints"
    return PoseError(problem, field=key, remedy=hint)


def _sets_hint(counts: Sequence[int]) -> str:
    fits = [name for count in counts for name in sets_with(count)]
    return f"If these joints are one of {', '.join(fits)}, say so with --joints (joints=)." if fits else ""
