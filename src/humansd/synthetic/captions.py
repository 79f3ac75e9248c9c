"""Sentences for a `ScenePlan`: `"<scene>, ..."` with varied wording.

Every table below maps a thing to the ways of saying it. A share of the sentence patterns is held out: no
training caption uses them, so a model that follows them has learned the words and not the sentences.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from humansd.synthetic.actions import ACTIONS
from humansd.synthetic.plan import COLORED_SCENES, Garment, PersonPlan, ScenePlan
from humansd.synthetic.views import DISTANT, WHOLE, View

Phrasing = Literal["seen", "held_out"]

COLOR_WORDS: dict[str, tuple[str, ...]] = {
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
    "top": ("top",),
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
    "photo": ("a photo of", "a photograph of", "an image of"),
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
    "pixel_art": ("pixel art of", "a pixel image of"),
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
COUNT_WORDS = {
    2: ("two people", "a group of two"),
    3: ("three people", "a group of three"),
    4: ("four people", "a group of four people"),
    5: ("five people", "a group of five people"),
    6: ("six people", "a group of six people"),
    7: ("seven people", "a group of seven people"),
    8: ("eight people", "a group of eight people"),
}
COUNT_HELD_OUT = {n: (f"a party of {words[0].split()[0]}",) for n, words in COUNT_WORDS.items() if n > 3}
# {it}: the person; by framing of `framing.VIEWS` and "distant".
FRAMING_SEEN: dict[str, tuple[str, ...]] = {
    "full": ("{it}",),
    "knees": ("{it} from the knees up", "{it}"),
    "waist": ("{it} from the waist up", "{it} seen from the waist up"),
    "chest": ("a close view of {it}", "a close-up of {it}", "{it} from the chest up"),
    "distant": ("{it} in the distance", "{it} far away", "a distant view of {it}"),
}
FRAMING_HELD_OUT: dict[str, tuple[str, ...]] = {
    "full": ("{it}",),
    "knees": ("{it} seen down to the knees",),
    "waist": ("a half-length view of {it}", "{it}, shown from the waist up,"),
    "chest": ("{it} close to the camera", "{it} seen up close"),
    "distant": ("{it} a long way off", "a far view of {it}"),
}

# {who} person, {clothes} garments, {act} action, {where} place, {when} light, for one person alone. By what can be
# seen: clothes and action, clothes, action, neither.
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
ONE_CLOTHES_SEEN = (
    "{who} in {clothes} {where} {when}",
    "{who} wearing {clothes}, {where} {when}",
    "{where} {when}, {who} in {clothes}",
)
ONE_CLOTHES_HELD_OUT = ("dressed in {clothes}, {who} {where} {when}", "{who} {where} {when}, in {clothes}")
ONE_ACT_SEEN = ("{who} {act} {where} {when}", "{where} {when}, {who} is {act}")
ONE_ACT_HELD_OUT = ("{who} is {act} {where} {when}",)
ONE_PLAIN_SEEN = ("{who} {where} {when}", "{where} {when}, {who}")
ONE_PLAIN_HELD_OUT = ("{when} {where}, {who}",)
EACH_SEEN = ("{who} in {clothes} {act}", "{who} wearing {clothes} and {act}", "{who} {act} in {clothes}")
EACH_HELD_OUT = ("{who} {act}, wearing {clothes}", "{who} dressed in {clothes}, {act}")
EACH_CLOTHES_SEEN = ("{who} in {clothes}", "{who} wearing {clothes}")
EACH_CLOTHES_HELD_OUT = ("{who} dressed in {clothes}",)
EACH_PLAIN = ("{who} {act}",)
ONE = {
    "seen": (ONE_SEEN, ONE_CLOTHES_SEEN, ONE_ACT_SEEN, ONE_PLAIN_SEEN),
    "held_out": (ONE_HELD_OUT, ONE_CLOTHES_HELD_OUT, ONE_ACT_HELD_OUT, ONE_PLAIN_HELD_OUT),
}
EACH = {
    "seen": (EACH_SEEN, EACH_CLOTHES_SEEN, EACH_PLAIN, EACH_PLAIN),
    "held_out": (EACH_HELD_OUT, EACH_CLOTHES_HELD_OUT, EACH_PLAIN, EACH_PLAIN),
}
LIST_FROM = 6  # so many people are named by their tops alone
UPRIGHT = re.compile(r"\b(stand|walk|tiptoe|strid|march)")  # words that speak of legs


def describe(
    plan: ScenePlan,
    rng: np.random.Generator,
    phrasing: Phrasing = "seen",
    views: tuple[View, ...] | None = None,
    short: bool = False,
) -> str:
    """One caption of `plan`, lower case, at most about 55 words, beginning with the scene name and a comma.

    Colours are named only in scenes that keep them (`COLOURED_SCENES`); `phrasing` picks the sentence patterns of
    training ("seen") or the ones kept for tests ("held_out"). `views`: what of each person can be seen, all of it by
    default; nothing else is named. The number of people is always that of the plan. `short`: people, their tops and
    the place, or for a group its number.
    """
    views = views or (WHOLE,) * len(plan.people)
    where, when = _pick(rng, PLACE_WORDS[plan.place]), _pick(rng, LIGHT_WORDS[plan.light])
    if short:
        where, when = (where if rng.random() < 0.6 else ""), (when if rng.random() < 0.25 else "")
    teller = _Teller(plan.scene in COLORED_SCENES, phrasing, short, rng)
    if len(plan.people) == 1:
        body, leads = teller.one(plan.people[0], views[0], where, when)
    else:
        body, leads = teller.several(plan.people, views, where, when), True
    style = _pick(rng, STYLE_WORDS[plan.scene]) + " " if leads and rng.random() < 0.5 else ""
    return _tidy(f"{plan.scene}, {style}{body}")


@dataclass(frozen=True)
class _Teller:
    """Words for the people of one caption."""

    colored: bool
    phrasing: Phrasing
    short: bool
    rng: np.random.Generator

    def one(self, person: PersonPlan, view: View, where: str, when: str) -> tuple[str, bool]:
        """The sentence about somebody alone, and whether it may follow "a photo of"."""
        clothes, act = self._clothes(person, view, 1 if self.short else 2), self._act(person, view)
        if self.short and _chance(self.rng, 0.5):
            act = ""
        pattern = self._pattern(ONE, clothes, act)
        framing = FRAMING_SEEN if self.phrasing == "seen" else FRAMING_HELD_OUT
        frame = _pick(self.rng, framing[view.distance])
        if self.short and _chance(self.rng, 0.4):
            frame = "{it}"
        if view.behind:
            where = f"behind {_article(view.behind)} {where}"
        who = frame.format(it=self._who(person, view, aged=True))
        text = pattern.format(who=who, clothes=clothes, act=act, where=where, when=when)
        return text, pattern.startswith("{who}") and frame.startswith("{it}")

    def several(self, people: tuple[PersonPlan, ...], views: tuple[View, ...], where: str, when: str) -> str:
        """The sentence about two or more; who cannot be described is only counted."""
        n = len(people)
        counts = COUNT_HELD_OUT if self.phrasing == "held_out" and n > 3 else COUNT_WORDS
        lead = _pick(self.rng, counts[n])
        if self.short and (n > 3 or _chance(self.rng, 0.5)):
            return f"{lead} {self._distance(views)} {where} {when}"
        parts = self._parts(people, views)
        if not parts:
            return f"{lead} {self._distance(views)} {where} {when}"
        if n > 3 or len(parts) < n:
            lead += ", " if len(parts) == n else ", among them "
        else:
            lead = lead + ", " if _chance(self.rng, 0.6) else ""
        return f"{lead}{_listed(parts)}, {self._distance(views)} {where} {when}"

    def _parts(self, people: tuple[PersonPlan, ...], views: tuple[View, ...]) -> list[str]:
        n = len(people)
        told = [(p, v) for p, v in zip(people, views, strict=True) if v.top or (v.action and n < 4)]
        if n >= LIST_FROM:
            return [f"one in {self._clothes(p, v, 1, plain=True)}" for p, v in told]
        detail = 2 if n == 2 and not self.short and _chance(self.rng, 0.5) else 1
        return [self._each(p, v, detail, brief=n > 3 or self.short) for p, v in told]

    def _each(self, person: PersonPlan, view: View, detail: int, brief: bool) -> str:
        clothes = self._clothes(person, view, detail, plain=brief)
        act = "" if brief else self._act(person, view)
        pattern = self._pattern(EACH, clothes, act)
        return pattern.format(who=self._who(person, view, aged=not brief), clothes=clothes, act=act)

    def _pattern(self, table: Mapping[str, tuple[tuple[str, ...], ...]], clothes: str, act: str) -> str:
        number = 0 if clothes and act else 1 if clothes else 2 if act else 3
        return _pick(self.rng, table[self.phrasing][number])

    def _distance(self, views: tuple[View, ...]) -> str:
        far = all(view.height < DISTANT for view in views)
        return ("in the distance" if self.phrasing == "seen" else "a long way off") if far else ""

    def _who(self, person: PersonPlan, view: View, aged: bool) -> str:
        if not view.face:
            return "a person"
        age = _pick(self.rng, AGE_WORDS[person.age]) if aged else ""
        return _article(f"{age} {_pick(self.rng, PERSON_WORDS[person.gender])}".strip())

    def _act(self, person: PersonPlan, view: View) -> str:
        if not view.action:
            return ""
        phrases = ACTIONS[person.action].phrases
        told = tuple(phrase for phrase in phrases if view.legs or not UPRIGHT.search(phrase))
        return _pick(self.rng, told) if told else ""

    def _clothes(self, person: PersonPlan, view: View, detail: int, plain: bool = False) -> str:
        """What is worn and seen; "" if nothing."""
        if not view.top:
            return ""
        top = person.top.kind
        if view.framing in ("waist", "chest") and top == "dress":
            top = "top"  # nobody could tell
        worn = [self._garment(person.top, top, plain)]
        if person.bottom is not None and view.bottom and detail > 1:
            worn.append(self._garment(person.bottom, person.bottom.kind, plain))
        if person.hat is not None and view.hat and detail > 1 and _chance(self.rng, 0.7):
            worn.append(self._garment(person.hat, person.hat.kind, plain))
        return _listed(worn)

    def _garment(self, garment: Garment, kind: str, plain: bool) -> str:
        words = GARMENT_WORDS[kind]
        noun = words[0] if plain else _pick(self.rng, words)
        phrase = [noun]
        if garment.pattern != "plain" and not plain and _chance(self.rng, 0.8):
            phrase.insert(0, garment.pattern)
        if self.colored:
            phrase.insert(0, _pick(self.rng, COLOR_WORDS[garment.color]))
        text = " ".join(phrase)
        return text if noun in PLURAL else _article(text)


def _chance(rng: np.random.Generator, share: float) -> bool:
    """True in that share of the calls."""
    return bool(rng.random() < share)


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _tidy(text: str) -> str:
    return " ".join(text.lower().split()).replace(" ,", ",").replace(",,", ",").removesuffix(",")
