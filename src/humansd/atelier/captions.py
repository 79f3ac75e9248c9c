"""Sentences for a `ScenePlan`: `"<scene>, ..."` with varied wording.

Every table below maps a thing to the ways of saying it. A share of the sentence patterns is held out: no
training caption uses them, so a model that follows them has learned the words and not the sentences.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from humansd.atelier.actions import ACTIONS
from humansd.atelier.plan import COLOURED_SCENES, Garment, PersonPlan, ScenePlan

Phrasing = Literal["seen", "held_out"]

COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "red", "red", "crimson"),
    "orange": ("orange",),
    "yellow": ("yellow",),
    "green": ("green",),
    "teal": ("teal", "turquoise"),
    "blue": ("blue",),
    "purple": ("purple", "purple", "violet"),
    "pink": ("pink",),
    "brown": ("brown",),
    "black": ("black",),
    "grey": ("grey", "gray"),
    "white": ("white",),
}
GARMENT_WORDS: dict[str, tuple[str, ...]] = {
    "t-shirt": ("t-shirt", "tee"),
    "shirt": ("shirt", "long-sleeved shirt"),
    "sweater": ("sweater", "pullover", "jumper"),
    "jacket": ("jacket",),
    "hoodie": ("hoodie",),
    "vest": ("vest", "sleeveless top"),
    "coat": ("coat", "overcoat"),
    "dress": ("dress", "gown"),
    "robe": ("robe", "long robe"),
    "trousers": ("trousers", "pants"),
    "shorts": ("shorts",),
    "skirt": ("skirt",),
    "leggings": ("leggings", "tights"),
    "long skirt": ("long skirt",),
    "cap": ("cap",),
    "beanie": ("beanie", "knitted hat"),
    "hat": ("hat",),
}
PLURAL = frozenset({"trousers", "pants", "shorts", "leggings", "tights"})
PERSON_WORDS: dict[str, tuple[str, ...]] = {
    "woman": ("woman", "woman", "lady", "person"),
    "man": ("man", "man", "gentleman", "person"),
}
AGE_WORDS: dict[str, tuple[str, ...]] = {"young": ("", "young"), "adult": ("",), "old": ("old", "elderly")}
STYLE_WORDS: dict[str, tuple[str, ...]] = {
    "photo": ("a photo of", "a photograph of", "a picture of"),
    "cartoon": ("a cartoon of", "an animated drawing of"),
    "digital_art": ("digital art of", "a digital painting of"),
    "oil_painting": ("an oil painting of", "a painting in oil of"),
    "watercolor": ("a watercolor of", "a watercolor painting of"),
    "comic": ("a comic panel of", "a comic book drawing of"),
    "sketch": ("a pencil sketch of", "a sketch of"),
    "ink_painting": ("an ink painting of", "an ink wash painting of"),
    "ukiyoe": ("a woodblock print of", "an ukiyo-e print of"),
    "mural": ("a mural of", "a wall painting of"),
    "stained_glass": ("a stained glass window of", "stained glass showing"),
    "kids_drawing": ("a kid's drawing of", "a crayon drawing of"),
    "pixel_art": ("pixel art of", "a pixel picture of"),
    "vintage_photo": ("an old photo of", "a sepia photograph of"),
    "sculpture": ("a statue of", "a sculpture of"),
    "relief": ("a stone relief of", "a carved relief of"),
    "shadow_play": ("a shadow play of", "the silhouette of"),
    "neon": ("a neon sign of", "neon lines showing"),
}
PLACE_WORDS: dict[str, tuple[str, ...]] = {
    "meadow": ("in a meadow", "on the grass", "in an open field"),
    "beach": ("on a beach", "by the sea"),
    "snow": ("in the snow", "on snowy ground"),
    "desert": ("in a desert", "among sand dunes"),
    "city": ("in a city", "in front of tall buildings", "on a city street"),
    "forest": ("in a forest", "among trees"),
    "mountains": ("in the mountains", "in front of mountains"),
    "lake": ("by a lake", "at the lakeside"),
    "room": ("in a room", "indoors on a wooden floor"),
    "stage": ("on a stage", "on a theatre stage"),
    "studio": ("in a studio", "in front of a plain backdrop"),
    "brick_wall": ("in front of a brick wall", "by a brick wall"),
    "gym": ("in a gym", "in a sports hall"),
}
LIGHT_WORDS: dict[str, tuple[str, ...]] = {
    "day": ("", "in daylight", "on a sunny day"),
    "sunset": ("at sunset", "in the evening sun"),
    "night": ("at night", "in the dark"),
    "cloudy": ("on a cloudy day", "under an overcast sky"),
}
COUNT_WORDS = {2: ("two people", "a group of two"), 3: ("three people", "a group of three")}

# {who} person, {clothes} garments, {act} action, {where} place, {when} light. The first line of each is seen.
ONE_SEEN = (
    "{who} in {clothes} {act} {where} {when}",
    "{who} wearing {clothes}, {act} {where} {when}",
    "{who} {act} {where} {when}, wearing {clothes}",
    "{who} {act}, dressed in {clothes}, {where} {when}",
    "{who} with {clothes} is {act} {where} {when}",
    "{where} {when}, {who} in {clothes} is {act}",
)
ONE_HELD_OUT = (
    "{who} is {act} {where} {when} in {clothes}",
    "dressed in {clothes}, {who} is {act} {where} {when}",
    "{when} {where}, {who} with {clothes}, {act}",
)
EACH_SEEN = ("{who} in {clothes} {act}", "{who} wearing {clothes} and {act}", "{who} {act} in {clothes}")
EACH_HELD_OUT = ("{who} {act}, wearing {clothes}", "{who} dressed in {clothes}, {act}")


def describe(plan: ScenePlan, rng: np.random.Generator, phrasing: Phrasing = "seen") -> str:
    """One caption of `plan`, lower case, at most about 40 words, beginning with the scene name and a comma.

    Colours are named only in scenes that keep them (`COLOURED_SCENES`); `phrasing` picks the sentence
    patterns of training ("seen") or the ones kept for tests ("held_out").
    """
    where = _pick(rng, PLACE_WORDS[plan.place])
    when = _pick(rng, LIGHT_WORDS[plan.light])
    coloured = plan.scene in COLOURED_SCENES
    if len(plan.people) == 1:
        pattern = _pick(rng, ONE_SEEN if phrasing == "seen" else ONE_HELD_OUT)
        body = _fill(pattern, plan.people[0], rng, coloured, detail=2, where=where, when=when)
        named = pattern.startswith("{who}")  # "a photo of" goes before a person alone
    else:
        each = EACH_SEEN if phrasing == "seen" else EACH_HELD_OUT
        detail = 2 if len(plan.people) == 2 and rng.random() < 0.5 else 1
        parts = [_fill(_pick(rng, each), person, rng, coloured, detail) for person in plan.people]
        lead = _pick(rng, COUNT_WORDS[len(parts)]) + ", " if rng.random() < 0.6 else ""
        body = f"{lead}{', '.join(parts[:-1])} and {parts[-1]}, {where} {when}"
        named = True
    style = _pick(rng, STYLE_WORDS[plan.scene]) + " " if named and rng.random() < 0.5 else ""
    return _tidy(f"{plan.scene}, {style}{body}")


def _fill(pattern: str, person: PersonPlan, rng: np.random.Generator, coloured: bool, detail: int, **more: str) -> str:
    age = _pick(rng, AGE_WORDS[person.age])
    who = _article(f"{age} {_pick(rng, PERSON_WORDS[person.gender])}".strip())
    clothes = _clothes(person, rng, coloured, detail)
    return pattern.format(who=who, clothes=clothes, act=_pick(rng, ACTIONS[person.action].phrases), **more)


def _clothes(person: PersonPlan, rng: np.random.Generator, coloured: bool, detail: int) -> str:
    worn = [_garment(person.top, rng, coloured)]
    if person.bottom is not None and detail > 1:
        worn.append(_garment(person.bottom, rng, coloured))
    if person.hat is not None and detail > 1 and rng.random() < 0.7:
        worn.append(_garment(person.hat, rng, coloured))
    return worn[0] if len(worn) == 1 else f"{', '.join(worn[:-1])} and {worn[-1]}"


def _garment(garment: Garment, rng: np.random.Generator, coloured: bool) -> str:
    noun = _pick(rng, GARMENT_WORDS[garment.kind])
    words = [noun]
    if garment.pattern != "plain" and rng.random() < 0.8:
        words.insert(0, garment.pattern)
    if coloured:
        words.insert(0, _pick(rng, COLOUR_WORDS[garment.colour]))
    phrase = " ".join(words)
    return phrase if noun in PLURAL else _article(phrase)


def _article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _tidy(text: str) -> str:
    return " ".join(text.lower().split()).replace(" ,", ",").replace(",,", ",").removesuffix(",")
