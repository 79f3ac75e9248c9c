"""True pairs of Atelier: one scene, the same people, clothes, light and camera, in two poses."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from humansd import __version__
from humansd.data.pairs import SIDES, pack_mask
from humansd.data.sample import Sample
from humansd.data.shards import write_shards
from humansd.synthetic import plan as vocabulary
from humansd.synthetic.blend import lit
from humansd.synthetic.buffers import NOTHING, Buffers
from humansd.synthetic.captions import describe
from humansd.synthetic.plan import ScenePlan
from humansd.synthetic.render import LICENSE, N_REWORDINGS, SOURCE
from humansd.synthetic.sampling import ROBED, sample_person, sample_plan
from humansd.synthetic.scenery import paint_background
from humansd.synthetic.sheet import Sheet
from humansd.synthetic.stage import MIN_JOINTS, Figure, draw_stage, frame_all, line_up, pose_figure, touch
from humansd.synthetic.styles import STYLES
from humansd.synthetic.views import View, look

EDITION = 1  # raised when the same (seed, index) comes to mean another pair
DILATED = 0.05  # of the side, by which people and shadows are dilated to what may change
SHADOW = 0.02  # less of it is none
TRIES = 12
MOST_PEOPLE = 3
FACING = 0.9  # share of the people who look roughly at the camera in both poses
# All scenes but one: neon light shines over the whole image.
STILL = {scene: share for scene, share in vocabulary.SCENES.items() if scene != "neon"}


@dataclass(eq=False)
class _Side(Sheet):
    """The sheet of one side: what depends on figures elsewhere is that of both sides."""

    behind: float = 9.0
    width: float = 0.0
    exposure: float = 1.0
    place: np.random.Generator | None = None

    @functools.cached_property
    def ground(self) -> NDArray[np.float32]:
        assert self.place is not None
        return paint_background(self.plan, self.layers.camera, self.side, self.place, self.behind)

    @functools.cached_property
    def stroke(self) -> float:
        return self.width

    @functools.cached_property
    def tone(self) -> NDArray[np.float32]:
        return np.clip(self.layers.shade * self.exposure, 0.45, 1.2).astype(np.float32)

    @functools.cached_property
    def lit(self) -> NDArray[np.float32]:
        return np.asarray(lit(self.layers.albedo, self.tone, self.tint))

    def separate(self, ground: NDArray[np.float32], amount: float = 0.14) -> NDArray[np.float32]:
        """The place as it is: a halo about one pose would be missing about the other."""
        return ground


def write_pairs(
    out: Path,
    count: int,
    *,
    size: int = 128,
    seed: int = 0,
    people: int = 1,
    workers: int = 2,
    per_shard: int = 500,
    progress: bool = True,
) -> dict[str, Any]:
    """Writes pairs 0 .. count - 1 of the endless set `seed` as 2 * count samples of shards, side "a" before side "b".

    people: in every image, 1 to 3. The rest, and what is returned and raised, as of `write_atelier`.
    """
    settings = {"generator": "atelier pairs", "edition": EDITION, "humansd": __version__, "seed": seed, "size": size}
    make = functools.partial(make_side, seed, size=size, people=people)
    about = {**settings, "people": people}
    shard = per_shard + per_shard % 2
    return write_shards(make, 2 * count, out, per_shard=shard, workers=workers, progress=progress, settings=about)


def make_side(seed: int, index: int, size: int = 128, people: int = 1) -> Sample:
    """Sample `index` of the set: side "a" of pair index / 2, or its side "b"."""
    return make_pair(seed, index // 2, size, people)[index % 2]


@functools.lru_cache(maxsize=2)
def make_pair(seed: int, index: int, size: int = 128, people: int = 1) -> tuple[Sample, Sample]:
    """Pair `index` of the endless set `seed`, the same on every machine.

    One caption serves both sides, so it names no action. `extras` as of `data.pairs`; `mask`, `captions`, `place`,
    `light`, `top_colours` and `bottom_colours` as of `render.make_sample`.

    Raises:
        ValueError: a size or a number of people that Atelier does not draw.
    """
    if not 64 <= size <= 1024 or not 1 <= people <= MOST_PEOPLE:
        raise ValueError(f"size = {size}, people = {people}: pairs have 64 to 1024 px and 1 to {MOST_PEOPLE} people")
    rngs = [np.random.default_rng(s) for s in np.random.SeedSequence((seed, index, 2)).spawn(3)]
    plans, layers = _stage(rngs[0], size, people)
    images = _painted(plans, layers, size, int(rngs[1].integers(2**32)))
    changes = pack_mask(what_may_change(layers, size))
    views = [look(plan, one) for plan, one in zip(plans, layers, strict=True)]
    words = rngs[2]
    seen = tuple(_in_both(*each) for each in zip(*views, strict=True))
    captions = [
        describe(plans[0], words, "seen", seen, short=i == N_REWORDINGS) for i in range(N_REWORDINGS + 1)
    ]  # the last one is short
    name = f"{seed:06d}-{index:09d}"
    made = [
        _sample(name, side, image, captions, plan, one)
        for side, image, plan, one in zip(SIDES, images, plans, layers, strict=True)
    ]
    made[0].extras["changes"] = changes
    return made[0], made[1]


def what_may_change(layers: tuple[Buffers, Buffers], size: int) -> NDArray[np.bool_]:
    """(size, size): people, what they hold or sit on, and shadows, of both sides, dilated by 5 % of the side."""
    either: NDArray[np.bool_] = np.zeros_like(layers[0].person, bool)
    for one in layers:
        either |= (one.material != NOTHING) | (one.shadow > SHADOW)
    step = len(either) // size
    cells = either[: size * step, : size * step].reshape(size, step, size, step)
    small = np.asarray(cells.any(axis=(1, 3)), np.uint8)
    reach = round(DILATED * size)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.dilate(small, disc) > 0)


def _stage(
    rng: np.random.Generator, size: int, people: int
) -> tuple[tuple[ScenePlan, ScenePlan], tuple[Buffers, Buffers]]:
    """The plans and the layers of both sides: two of those tried in which everyone is well seen, else the best."""
    shares = np.array(list(STILL.values()))
    scene = str(rng.choice(list(STILL), p=shares / shares.sum()))
    everyone = tuple(sample_person(rng, robed=scene in ROBED) for _ in range(people))
    plan = replace(sample_plan(rng, scene), people=everyone)
    clothes, light = (int(value) for value in rng.integers(2**32, size=2))
    best: tuple[tuple[ScenePlan, ScenePlan], tuple[Buffers, Buffers]] | None = None
    for _ in range(TRIES):
        other = replace(plan, people=tuple(replace(p, action=_other_action(p, rng)) for p in plan.people))
        both = [[_dressed(p, rng, clothes + i) for i, p in enumerate(one.people)] for one in (plan, other)]
        placed = line_up(both[0], rng, 0.0)
        again = [_at_the_place_of(figure, there) for figure, there in zip(both[1], placed, strict=True)]
        camera = frame_all([*placed, *again], size * 2, rng)
        made = tuple(
            draw_stage(figures, [], camera, size, 2, np.random.default_rng(light)) for figures in (placed, again)
        )
        crowded = any(touch(figure, [o for o in again if o is not figure]) for figure in again)
        if best is None or (_worst(made) > _worst(best[1]) and not crowded):
            best = (plan, other), (made[0], made[1])
        if _worst(best[1]) >= MIN_JOINTS:
            break
    assert best is not None
    return best


def _other_action(person: vocabulary.PersonPlan, rng: np.random.Generator) -> str:
    """Another action than the person's."""
    action = person.action
    while action == person.action:
        action = sample_person(rng).action
    return action


def _dressed(person: vocabulary.PersonPlan, rng: np.random.Generator, clothes: int) -> Figure:
    return pose_figure(person, rng, FACING, np.random.default_rng(clothes))


def _at_the_place_of(figure: Figure, other: Figure) -> Figure:
    """The figure, whose hips are over the origin, with them over those of the other."""
    x, _, z = other.joints[11:13].mean(axis=0)
    return figure.moved(float(x), float(z))


def _worst(layers: tuple[Buffers, ...]) -> int:
    """The fewest visible joints that anybody has on either side."""
    return min(int((one.people.visibility == 2).sum(axis=1).min()) for one in layers)


def _painted(
    plans: tuple[ScenePlan, ScenePlan], layers: tuple[Buffers, Buffers], size: int, seed: int
) -> list[NDArray[np.uint8]]:
    """Both images (size, size, 3): one place, one width of strokes, one exposure, one paper."""
    figures = [one.material != NOTHING for one in layers]
    depth = np.concatenate([one.depth[there] for one, there in zip(layers, figures, strict=True)])
    depth = depth[np.isfinite(depth)]
    shade = np.concatenate([one.shade[there] for one, there in zip(layers, figures, strict=True)])
    images = []
    for plan, one in zip(plans, layers, strict=True):
        sheet = _Side(
            plan,
            one,
            np.random.default_rng(seed),
            behind=max(float(depth.max()) + 1.5, 4.0) if depth.size else 6.0,
            width=float(np.mean([Sheet(plan, each, np.random.default_rng(0)).stroke for each in layers])),
            exposure=float(np.clip(0.97 / max(float(shade.mean()), 1e-3), 0.7, 1.7)) if shade.size else 1.0,
            place=np.random.default_rng(seed + 1),
        )
        image = np.clip(STYLES[plan.scene](sheet), 0, 1).astype(np.float32)
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        images.append(np.rint(image * 255).astype(np.uint8))
    return images


def _in_both(first: View, second: View) -> View:
    """What a caption may say of a person on either side: nothing of what is done."""
    both = {name: getattr(first, name) and getattr(second, name) for name in ("top", "bottom", "hat", "face")}
    return View(**both, action=False, legs=False, framing="full", height=min(first.height, second.height))


def _sample(
    name: str, side: str, image: NDArray[np.uint8], captions: list[str], plan: ScenePlan, layers: Buffers
) -> Sample:
    step = layers.person.shape[0] // len(image)
    return Sample(
        key=f"{name}-{side}",
        image=image,
        caption=captions[0],
        people=layers.people,
        scene=plan.scene,
        source=SOURCE,
        license=LICENSE,
        extras={
            "mask": np.ascontiguousarray(layers.person[step // 2 :: step, step // 2 :: step]),
            "captions": captions[1:],
            "place": plan.place,
            "light": plan.light,
            "top_colours": [person.top.color for person in plan.people],
            "bottom_colours": [person.bottom.color if person.bottom else None for person in plan.people],
            "pair": {"name": name, "side": side},
        },
    )
