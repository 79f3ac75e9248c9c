"""The lines of the pocket model's table: what results of `evaluate` say, beside what was aimed at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

MIN_JOINTS = 8  # of real people who count for AP


@dataclass(frozen=True)
class Line:
    """A line of the table. value, low, high and beside (the ceiling) are in the line's own unit; None: no value.

    aim: in words; reached: whether the value does, None where there is no value or no aim.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    beside: float | None = None
    aim: str = ""
    reached: bool | None = None
    digits: int = 2


def table_lines(found: Mapping[str, Any], diversity: Mapping[str, float], calls: int) -> list[Line]:
    """The lines of what was measured.

    found: results of `evaluate`: default (by phrasing), real, few, and others, of further estimators, by their name.
    diversity: share, low, high. calls: of the UNet.
    """
    seen, other = found["default"]["seen"], found["default"]["held_out"]
    lines = [
        _share(seen, "ap", "AP as a share of the ceiling, Atelier's poses", 0.85),
        *_real_lines(found.get("real")),
        *_lines_of_others(found.get("others") or {}),
        _plain(seen, "all", "ap_medium", "AP(m), Atelier's poses", None, scale=100),
        _plain(seen, "1 to 3 people", "pce", "PCE, 1 to 3 people", 0.25),
        _plain(seen, "4 to 8 people", "pce", "PCE, 4 to 8 people", 1.0),
        _color(seen, "all", "color", "torso color right, seen phrasings, %", 85),
        _color(other, "all", "color", "torso color right, held-out phrasings, %", 80),
        _color(seen, "person 2", "color person 2", "torso color right, second person, %", 70),
        _share(seen, "clipsim", "CLIPSIM as a share of the real pairs'", 0.95),
        _line("diversity, as a share of Atelier's renders", diversity["share"], 0.8, ends=_ends(diversity)),
        _line("UNet calls an image", calls, 8, below=True, digits=0),
    ]
    return lines + _few_lines(found)


def _real_lines(results: Mapping[str, Any] | None) -> list[Line]:
    if results is None:
        return []
    name = f"AP, real poses, people with {MIN_JOINTS} joints or more"
    return [
        _plain(results, "all", "ap", name, 40, scale=100, interval="ap", below=False),
        _plain(results, "all", "ap_medium", "AP(m), real poses", None, scale=100),
        _plain(results, "1 to 3 people", "pce", "PCE, real poses, 1 to 3 people", None),
        _plain(results, "4 to 8 people", "pce", "PCE, real poses, 4 to 8 people", None),
    ]


def _lines_of_others(others: Mapping[str, Any]) -> list[Line]:
    lines = []
    for estimator, results in others.items():
        name = f"found by {estimator.partition('=')[0]}"
        lines.append(_share(results["seen"], "ap", f"AP as a share of the ceiling, {name}", None))
        if "real" in results:
            lines.append(
                _plain(results["real"], "all", "ap", f"AP, real poses, {name}", None, scale=100, interval="ap")
            )
    return lines


def _few_lines(found: Mapping[str, Any]) -> list[Line]:
    timed = found.get("few") or found["default"]["seen"]
    seconds = (timed.get("time") or {}).get("seconds")
    lines = [_line("seconds an image, batch 1, all in", seconds, 0.15, below=True, digits=3)]
    if "few" not in found:
        return lines
    few, whole = (_score(one, "all", "ap") for one in (found["few"], found["default"]["seen"]))
    share = None if not whole or few is None else few / whole
    return [
        _line("few steps: UNet calls an image", found["few_calls"], 4, below=True, digits=0),
        _line("few steps: AP as a share of the default variant's", share, 0.95),
        *(replace(one, name=f"few steps: {one.name}") for one in lines),
    ]


def _score(results: Mapping[str, Any], group: str, key: str, side: str = "generated") -> float | None:
    found = results["groups"].get(group, {}).get(side, {}).get(key)
    return None if found is None else float(found)


def _ends(one: Mapping[str, float]) -> tuple[float | None, float | None]:
    return one["low"], one["high"]


def _line(
    name: str,
    value: float | None,
    aim: float | None,
    *,
    ends: tuple[float | None, float | None] = (None, None),
    beside: float | None = None,
    below: bool = False,
    digits: int = 2,
) -> Line:
    """below: the aim is reached at or below it."""
    reached = None if value is None or aim is None else (value <= aim if below else value >= aim)
    told = "" if aim is None else f"{'<=' if below else '>='} {aim:g}"
    return Line(name, value, *ends, beside, told, reached, digits)


def _share(results: Mapping[str, Any], key: str, name: str, aim: float | None) -> Line:
    """A score as a share of the real images'; the interval is the score's own, against the ceiling as it is."""
    value, ceiling = (_score(results, "all", key, side) for side in ("generated", "ceiling"))
    if value is None or not ceiling:
        return _line(name, None, aim)
    low, high = results["intervals"].get(key) or (None, None)
    ends = (None, None) if low is None or high is None else (low / ceiling, high / ceiling)
    return _line(name, value / ceiling, aim, ends=ends, beside=1.0)


def _plain(
    results: Mapping[str, Any],
    group: str,
    key: str,
    name: str,
    aim: float | None,
    *,
    scale: float = 1,
    interval: str = "",
    below: bool = True,
) -> Line:
    value, ceiling = (_score(results, group, key, side) for side in ("generated", "ceiling"))
    ends = [None if one is None else scale * one for one in results["intervals"].get(interval) or (None, None)]
    beside = None if ceiling is None else scale * ceiling
    digits = 1 if scale == 100 else 2
    shown_value = None if value is None else scale * value
    return _line(name, shown_value, aim, ends=(ends[0], ends[1]), beside=beside, below=below, digits=digits)


def _color(results: Mapping[str, Any], group: str, key: str, name: str, aim: float) -> Line:
    found = results["colors"].get(group, {})
    value, ceiling = (None if found.get(side) is None else 100 * found[side] for side in ("generated", "ceiling"))
    ends = [None if one is None else 100 * one for one in results["intervals"].get(key) or (None, None)]
    return _line(name, value, aim, ends=(ends[0], ends[1]), beside=ceiling, digits=0)
