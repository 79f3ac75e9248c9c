"""The words that the captions of Atelier use: what a model that learnt from them knows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from humansd.synthetic import captions
from humansd.synthetic.actions import ACTIONS
from humansd.synthetic.plan import COLORED_SCENES, PATTERNS, SCENES
from humansd.synthetic.props import PROPS

_GLUE = "a an and one in the distance long way off among them behind"  # of `captions._Teller`


def lexicon() -> dict[str, list[str]]:
    """Kind of word -> phrases as captions use them: `scenes` (a caption begins with one), `colored_scenes` (those in
    which colors are named), `styles` (ways to say a scene), `places`, `light`, `people`, `garments`, `colors`,
    `patterns`, `actions`; and `words`, every single word."""
    phrases: dict[str, Iterable[str]] = {
        "scenes": SCENES,
        "colored_scenes": [scene for scene in SCENES if scene in COLORED_SCENES],
        "styles": _values(captions.STYLE_WORDS),
        "places": _values(captions.PLACE_WORDS),
        "light": _values(captions.LIGHT_WORDS),
        "people": [*_values(captions.PERSON_WORDS), *_values(captions.AGE_WORDS), *_values(captions.COUNT_WORDS)],
        "garments": _values(captions.GARMENT_WORDS),
        "colors": _values(captions.COLOR_WORDS),
        "patterns": [pattern for pattern in PATTERNS if pattern != "plain"],
        "actions": [phrase.lower() for action in ACTIONS.values() for phrase in action.phrases],
    }
    found = {kind: list(dict.fromkeys(one for one in values if one)) for kind, values in phrases.items()}
    sentences = [
        pattern for table in (captions.ONE, captions.EACH) for rows in table.values() for pattern in _all(rows)
    ]
    sentences += [*_values(captions.FRAMING_SEEN), *_values(captions.FRAMING_HELD_OUT)]
    sentences += [*_values(captions.COUNT_HELD_OUT), *PROPS, _GLUE]
    every = [re.sub(r"\{\w+\}", " ", sentence) for sentence in sentences] + [
        one for ones in found.values() for one in ones
    ]
    return found | {"words": sorted({word for text in every for word in words_of(text)})}


def words_of(text: str) -> list[str]:
    """The words of a text in small letters; what is joined by "-", "_" or "'" is one."""
    return re.findall(r"[^\W\d_]+(?:[-_'’][^\W\d_]+)*", text.lower())


def _values(table: Mapping[Any, Iterable[str]]) -> list[str]:
    return [text for texts in table.values() for text in texts]


def _all(rows: Iterable[Iterable[str]]) -> list[str]:
    return [pattern for row in rows for pattern in row]
