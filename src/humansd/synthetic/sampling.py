"""Draws a `ScenePlan` at random: who, dressed how, doing what, where, in which style."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from humansd.synthetic import plan as p
from humansd.synthetic.actions import ACTIONS
from humansd.synthetic.body import N_BODIES, body_traits
from humansd.synthetic.framing import Target
from humansd.synthetic.views import CLOSE_ACTIONS
from humansd.synthetic.wardrobe import too_close_to_skin

PEOPLE_SHARES = {1: 0.7, 2: 0.2, 3: 0.1}  # HumanSD section 4.1 (GHI): 7:2:1
ACTION_WEIGHTS = {name: action.weight for name, action in ACTIONS.items()}
CLOSE_WEIGHTS = {name: ACTIONS[name].weight for name in CLOSE_ACTIONS}
Key = TypeVar("Key")

FULL_LENGTH = ("dress", "robe")
ROBED = ("sculpture", "relief")  # scenes whose people wear long, loose clothes


def sample_plan(rng: np.random.Generator, scene: str | None = None) -> p.ScenePlan:
    """A plan drawn from `rng`; `scene` fixes the style."""
    empty = _sample_place(rng, scene)
    count = int(_weighted(rng, PEOPLE_SHARES))
    return replace(empty, people=tuple(sample_person(rng, robed=empty.scene in ROBED) for _ in range(count)))


def _sample_place(rng: np.random.Generator, scene: str | None) -> p.ScenePlan:
    """Style, place and light, nobody there yet."""
    if scene is None:
        scene = _weighted(rng, p.SCENES)
    place = str(rng.choice(p.PLACES))
    light = "day" if place in p.INDOOR else str(rng.choice(p.LIGHTS, p=(0.55, 0.15, 0.12, 0.18)))
    return p.ScenePlan(scene, place, light, ())


def sample_framed(rng: np.random.Generator, targets: list[Target], scene: str | None = None) -> p.ScenePlan:
    """A plan for people who are framed like `targets`, in their order."""
    empty = _sample_place(rng, scene)
    people = tuple(sample_person(rng, empty.scene in ROBED, target.view) for target in targets)
    return replace(empty, people=people)


def sample_person(rng: np.random.Generator, robed: bool = False, view: int = 0) -> p.PersonPlan:
    """One clothed adult; `robed` people wear long, loose clothes (statues).

    `view`: index into framing.VIEWS. Who is not seen to the feet stands and does what the arms show, in clothes that
    can be told from the part in view.
    """
    body = int(rng.integers(N_BODIES))
    gender, age = body_traits(body)
    kinds = [k for k in p.TOPS if not (k == "dress" and gender == "man")]
    kinds = [k for k in kinds if not (view > 1 and k in ("dress", "robe", "coat"))]
    weights = np.array([0.25 if k == "robe" else 1.0 for k in kinds])
    kind = str(rng.choice(["robe", "coat"])) if robed else str(rng.choice(kinds, p=weights / weights.sum()))
    top = p.Garment(kind, _color(rng), _pattern(rng, 0.22))
    bottom = None if kind in FULL_LENGTH else _bottom(rng, gender, kind, top.color)
    hat = p.Garment(str(rng.choice(p.HATS)), _color(rng)) if rng.random() < 0.15 else None
    hair = {"short": 1.0, "curly": 0.6, "bald": 0.25} if gender == "man" else {
        "short": 0.6, "long": 1.2, "bun": 0.7, "curly": 0.6}  # fmt: skip
    color = "grey" if age == "old" and rng.random() < 0.8 else str(rng.choice(tuple(p.HAIR_COLORS)))
    return p.PersonPlan(
        body=body,
        gender=gender,
        age=age,
        skin=_skin(rng, [garment.color for garment in (top, bottom) if garment is not None]),
        hair_style=_weighted(rng, hair),
        hair_color=color,
        top=top,
        bottom=bottom,
        shoes=p.Garment(str(rng.choice(p.SHOES)), str(rng.choice(("black", "brown", "white", "grey", "red")))),
        hat=hat,
        action=_weighted(rng, CLOSE_WEIGHTS if view else ACTION_WEIGHTS),
    )


def _bottom(rng: np.random.Generator, gender: str, top: str, top_color: str) -> p.Garment:
    shares = {"trousers": 2.0, "shorts": 0.9}
    if gender == "woman":
        shares |= {"skirt": 0.8, "long skirt": 0.5, "leggings": 0.6}
    if top == "coat":
        shares = {"trousers": 1.0}
    color = _color(rng)
    while color == top_color:  # a boundary to see between top and bottom
        color = _color(rng)
    return p.Garment(_weighted(rng, shares), color, _pattern(rng, 0.08))


def _skin(rng: np.random.Generator, cloth: list[str]) -> int:
    """A skin that none of the cloth could be mistaken for."""
    skins = [skin for skin in range(len(p.SKINS)) if not any(too_close_to_skin(c, skin) for c in cloth)]
    return int(rng.choice(skins))


def _color(rng: np.random.Generator) -> str:
    return str(rng.choice(tuple(p.COLORS)))


def _pattern(rng: np.random.Generator, share: float) -> str:
    return str(rng.choice(p.PATTERNS[1:])) if rng.random() < share else "plain"


def _weighted(rng: np.random.Generator, shares: dict[Key, float]) -> Key:
    weights = np.fromiter(shares.values(), float)
    return list(shares)[int(rng.choice(len(weights), p=weights / weights.sum()))]
