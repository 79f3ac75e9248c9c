"""What an image will show, decided before a pixel is drawn: the vocabulary, and the plan of one scene.

The renderer draws a `ScenePlan` and the caption writer describes the same plan, so the two cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass

# Colour name -> sRGB 0..255 of the cloth.
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (205, 30, 36),
    "orange": (240, 130, 25),
    "yellow": (245, 212, 50),
    "green": (38, 145, 62),
    "teal": (20, 150, 150),
    "blue": (35, 82, 200),
    "purple": (125, 50, 165),
    "pink": (242, 130, 175),
    "brown": (115, 70, 38),
    "black": (28, 28, 32),
    "grey": (135, 135, 140),
    "white": (240, 240, 238),
}

# Scene (style) name -> share of the images. Human-Art's scene names where one fits.
SCENES: dict[str, float] = {
    "photo": 5.0,
    "cartoon": 2.0,
    "digital_art": 2.0,
    "oil_painting": 1.5,
    "watercolor": 1.5,
    "comic": 1.2,
    "sketch": 1.2,
    "ink_painting": 1.0,
    "ukiyoe": 1.0,
    "mural": 1.0,
    "stained_glass": 1.0,
    "kids_drawing": 1.0,
    "pixel_art": 1.0,
    "vintage_photo": 1.0,
    "sculpture": 1.0,
    "relief": 0.8,
    "shadow_play": 0.8,
    "neon": 0.8,
}
# Scenes in which cloth keeps its colour; in the others the caption names no colour.
COLORED_SCENES = frozenset(
    {
        "photo",
        "cartoon",
        "digital_art",
        "oil_painting",
        "watercolor",
        "comic",
        "ukiyoe",
        "mural",
        "stained_glass",
        "kids_drawing",
        "pixel_art",
    }
)

PLACES = (
    "meadow", "beach", "snow", "desert", "city", "forest", "mountains", "lake",
    "room", "stage", "studio", "brick_wall", "gym",
)  # fmt: skip
INDOOR = frozenset({"room", "stage", "studio", "gym"})
LIGHTS = ("day", "sunset", "night", "cloudy")  # indoors always "day" (lamp light)

TOPS = (
    "t-shirt",
    "shirt",
    "sweater",
    "jacket",
    "hoodie",
    "vest",
    "coat",
    "dress",
    "robe",
)  # dress, robe: no bottom
BOTTOMS = ("trousers", "shorts", "skirt", "leggings", "long skirt")
PATTERNS = ("plain", "striped", "checked", "dotted")
SHOES = ("shoes", "boots")
HATS = ("cap", "beanie", "hat")
HAIR_STYLES = ("short", "long", "bun", "curly", "bald")
HAIR_COLORS: dict[str, tuple[int, int, int]] = {
    "black": (25, 22, 22),
    "brown": (92, 58, 32),
    "blond": (225, 190, 110),
    "red": (165, 65, 25),
    "grey": (165, 165, 168),
}
SKINS: tuple[tuple[int, int, int], ...] = (
    (245, 214, 190), (232, 190, 160), (205, 155, 120), (165, 115, 80), (120, 78, 52), (82, 52, 36),
)  # fmt: skip


@dataclass(frozen=True)
class Garment:
    """One piece of clothing. `colour` is a key of COLOURS; `pattern` one of PATTERNS (second colour: white or
    black, whichever differs more)."""

    kind: str
    color: str
    pattern: str = "plain"


@dataclass(frozen=True)
class PersonPlan:
    """One clothed adult. `body` indexes the body bank; `bottom` is None under a dress or robe."""

    body: int
    gender: str  # "woman" | "man"
    age: str  # "young" | "adult" | "old"
    skin: int
    hair_style: str
    hair_color: str
    top: Garment
    bottom: Garment | None
    shoes: Garment
    hat: Garment | None
    action: str  # key of actions.ACTIONS


@dataclass(frozen=True)
class ScenePlan:
    """Everything an image shows: 1 to 8 people left to right, where, in what light, drawn how."""

    scene: str
    place: str
    light: str
    people: tuple[PersonPlan, ...]
