"""The lexicon of prompts (`ghi.toml`) as tables: lists with weights and tags, and every action it composes."""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("ghi.toml")
# The parts of a prompt, in no order but that of the issue they come from: HumanSD, section 4.
PARTS = (
    *("style", "quality", "medium", "number", "age", "looks", "clothes", "hair", "expression"),
    *("action", "interaction", "object", "place", "time", "season", "weather", "camera", "light"),
)


@dataclass(frozen=True)
class Word:
    """An entry of a list: its text ("" leaves the part out), how often it is drawn, and what it goes with."""

    text: str
    weight: float = 1.0
    tags: frozenset[str] = frozenset()

    def suits(self, tags: frozenset[str]) -> bool:
        """Whether it goes with these tags; without tags of its own it goes with all."""
        return not self.tags or bool(self.tags & tags)


@dataclass(frozen=True)
class Action:
    """What people do: a text like "carrying a suitcase", where, and by how many."""

    text: str
    where: frozenset[str]
    fewest: int
    most: int


def word(entry: str) -> Word:
    """ "text", "text|weight" or "text|weight|tag,tag"."""
    text, _, rest = entry.partition("|")
    weight, _, tags = rest.partition("|")
    return Word(text, float(weight or 1), frozenset(tag for tag in tags.split(",") if tag))


@functools.cache
def lexicon() -> dict[str, Any]:
    """The file, parsed."""
    with FILE.open("rb") as stream:
        return tomllib.load(stream)


@functools.cache
def words(part: str, name: str = "list") -> tuple[Word, ...]:
    """A list of a part."""
    return tuple(word(entry) for entry in lexicon()[part][name])


@functools.cache
def actions() -> tuple[Action, ...]:
    """Every distinct action, in the order of the file."""
    table = lexicon()
    nonsense = re.compile("|".join(f"(?:{one})" for one in table["nonsense"]["pairs"]))
    found: dict[str, Action] = {}
    for entry in table["actions"]:
        things = table["things"][entry["things"]] if "things" in entry else [""]
        postures = ["", *table["postures"][entry["postures"]]] if "postures" in entry else [""]
        fewest, most = entry.get("people", (1, 3))
        for verb in entry["verbs"]:
            for thing in things:
                for posture in postures:
                    text = " ".join(part for part in (posture, verb, thing) if part)
                    if text not in found and not nonsense.search(text):
                        found[text] = Action(text, frozenset(entry.get("where", ())), fewest, most)
    return tuple(found.values())
