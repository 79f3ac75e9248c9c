"""Prompts of people doing things, composed of 18 parts: GHI's way (HumanSD, section 4) with a lexicon of our own."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from humansd.build.lexicon import Action, Word, actions, lexicon, words

_COUNTS = {1: "one", 2: "two", 3: "three"}
_PLURAL = {"man": "men", "woman": "women"}


@dataclass(frozen=True)
class Prompt:
    """A prompt: its text, how many people it asks for, and the 18 parts it is made of ("" where one is left out)."""

    text: str
    people: int
    parts: dict[str, str]


def compose(seed: int, index: int) -> Prompt:
    """Prompt number `index` of a seed; the same in any process."""
    rng = random.Random(f"{seed} {index}")
    parts = {"style": _draw(rng, words("style")), "number": _draw(rng, words("number"))}
    n = int(parts["number"])
    action, place = _action_and_place(rng, n)
    parts |= {"action": action.text, "place": place.text, **_surroundings(rng, place, parts["style"])}
    parts |= _people(rng, n, place, parts["style"])
    parts["interaction"] = _draw(rng, _suited("interaction", action)) if n > 1 else ""
    parts["object"] = _draw(rng, [one for one in words("object") if one.suits(place.tags)])
    parts["medium"] = rng.choice(lexicon()["medium"][parts["style"]]).format(
        adjective=rng.choice(lexicon()["medium"]["adjectives"])
    )
    for name in ("quality", "camera"):
        parts[name] = _draw(rng, words(name))
    return Prompt(_text(parts), n, {**parts, "number": str(n)})


def _draw(rng: random.Random, choices: Sequence[Word]) -> str:
    return rng.choices(choices, [one.weight for one in choices])[0].text if choices else ""


def _action_and_place(rng: random.Random, n: int) -> tuple[Action, Word]:
    """An action, then one of the places where it is done: so all actions are drawn alike often."""
    action = rng.choice(_by_number(n))
    places = [place for place in words("place") if not action.where or action.where & place.tags]
    if not action.where:  # not while the boat rocks or the ice is thin
        places = [place for place in places if not place.tags & {"boat", "ice"}]
    return action, rng.choices(places, [place.weight for place in places])[0]


@functools.cache
def _by_number(n: int) -> tuple[Action, ...]:
    return tuple(action for action in actions() if action.fewest <= n <= action.most)


def _surroundings(rng: random.Random, place: Word, style: str) -> dict[str, str]:
    """Time, season, weather and light that go together."""
    table = lexicon()
    outdoor, cold = "outdoor" in place.tags, bool(place.tags & {"snow", "ice"})
    parts = {"time": _draw(rng, words("time", "outdoor" if outdoor else "indoor")), "season": "", "weather": ""}
    if outdoor:
        parts["season"] = _draw(rng, words("season", "cold" if cold else "list"))
        parts["weather"] = _draw(rng, words("weather", "cold" if cold else "list"))
    dark = parts["time"] in ("at night", "at dusk", "at dawn", "at sunset")
    if dark and parts["weather"] in table["weather"]["not_at_night"]:
        parts["weather"] = ""
    parts["light"] = "" if style in table["light"]["not_of"] else _draw(rng, words("light"))
    return parts


def _people(rng: random.Random, n: int, place: Word, style: str) -> dict[str, str]:
    """Who they are and what they wear."""
    table = lexicon()
    warm = not place.tags & {"snow", "ice"}
    clothes: Sequence[Word] = [
        one
        for one in words("clothes")
        if (one.suits(place.tags) or (not warm and "cold" in one.tags)) and (warm or not one.text or "cold" in one.tags)
    ]
    if style in ("sculpture", "relief"):  # statues in tight clothes look bare
        clothes = words("clothes", "sculpted")
    who = rng.choice(table["number"][_COUNTS[n]])
    found = {name: _draw(rng, words(name)) for name in ("age", "looks", "hair", "expression")}
    return {**found, "clothes": _draw(rng, clothes), "who": who}


def _suited(part: str, action: Action) -> list[Word]:
    """Interactions that the action does not rule out: those who walk do not stand."""
    if action.fewest > 1:
        return []
    moving = action.text.split(" ")[0] in (
        "walking",
        "running",
        "jogging",
        "marching",
        "sitting",
        "kneeling",
        "sprinting",
    )
    return [one for one in words(part) if not (one.tags and moving)]


def _text(parts: dict[str, str]) -> str:
    """The prompt: the scene, then sentence order; what is left out leaves no trace."""
    who = parts.pop("who")
    article, _, rest = who.partition(" ")
    described = " ".join(part for part in (parts["age"], parts["looks"]) if part)
    if article == "a" and " and " not in who:
        noun = f"{described} {rest}".strip()
        subject = f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    elif " and " in who:
        each = " and ".join(part for part in (parts["age"], parts["looks"]) if part)
        subject = f"{who}, {'both' if parts['number'] == '2' else 'all'} {each}," if each else who
    else:
        subject = f"{article} {described} {rest}".replace("  ", " ")
    wearing = [f"with {parts['hair']}"] if parts["hair"] else []
    wearing += [f"in {parts['clothes']}"] if parts["clothes"] else []
    first = " ".join([f"{parts['medium']} of {subject}", *wearing])
    doing = " ".join(part for part in (parts["action"], parts["interaction"]) if part)
    where = " ".join(part for part in (parts["object"], parts["place"], parts["time"]) if part)
    rest_parts = [parts[name] for name in ("expression", "season", "weather", "camera", "light", "quality")]
    return ", ".join(
        [parts["style"], f"{first} {doing} {where}".replace(" ,", ","), *(one for one in rest_parts if one)]
    )
