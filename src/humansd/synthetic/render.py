"""Image i of seed s: plan, layers, paint, caption, all from one generator seeded by (s, i)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from humansd.data.sample import Sample
from humansd.pose.people import People
from humansd.synthetic.buffers import Buffers
from humansd.synthetic.captions import Phrasing, describe
from humansd.synthetic.composing import compose
from humansd.synthetic.framing import FULL_SHARE, annotated, sample_targets
from humansd.synthetic.plan import ScenePlan
from humansd.synthetic.sampling import sample_framed, sample_person, sample_plan
from humansd.synthetic.stage import draw_stage, pose_figure, render_buffers
from humansd.synthetic.styles import paint
from humansd.synthetic.views import View, look

SOURCE = "atelier"
EDITION = 2  # raised when the same (seed, index) comes to mean another image; 2: framed like photographs, crowds
LICENSE = "CC0-1.0"
N_REWORDINGS = 3
LEAST_AREA = 1e-4  # share of the image that a person must cover to count as in it
POSE_PX = 96  # of the layers that say which joints are seen
FACING = 0.4  # share of people in photographs who look roughly at the camera on purpose


@dataclass(frozen=True, eq=False)
class Rendered:
    """A finished stage: the final plan (people left to right), its layers, what can be seen of each person, and
    whether it was framed like a real photograph (`framed`) or as whole figures."""

    plan: ScenePlan
    buffers: Buffers
    views: tuple[View, ...]
    framed: bool


def stage_image(rng: np.random.Generator, size: int, supersample: int = 2) -> Rendered:
    """Plans and renders the layers of one image, `size` px."""
    if _is_whole(rng):
        plan = sample_plan(rng)
        buffers = render_buffers(plan, size, rng, supersample)
        return Rendered(plan, buffers, look(plan, buffers), False)
    targets = sample_targets(rng)
    plan = sample_framed(rng, targets)
    figures = [pose_figure(person, rng, FACING) for person in plan.people]
    stage = compose(figures, targets, plan.place, size * supersample, rng)
    while True:
        buffers = draw_stage(stage.figures, stage.things, stage.camera, size, supersample, rng)
        shown = (buffers.people.visibility == 2).any(axis=1) & (buffers.people.area > LEAST_AREA * size**2)
        if shown.all() or not shown.any():
            break
        stage = stage.only(shown)
    final = replace(plan, people=tuple(plan.people[i] for i in stage.numbers))
    return Rendered(final, buffers, look(final, buffers, stage.behind), True)


def layers(seed: int, index: int, size: int) -> Buffers:
    """The layers of a sample, without its paint."""
    return stage_image(_generators(seed, index)[0], size).buffers


def _generators(seed: int, index: int) -> tuple[np.random.Generator, np.random.Generator]:
    """Of the image and of the words of a sample."""
    image, words = (np.random.default_rng(s) for s in np.random.SeedSequence((seed, index)).spawn(2))
    return image, words


def is_whole(seed: int, index: int) -> bool:
    """Whether a sample shows whole, large figures as edition 1 did; known without rendering it."""
    return _is_whole(_generators(seed, index)[0])


def whole_plan(seed: int, index: int) -> ScenePlan | None:
    """The plan of a sample that shows whole figures (`is_whole`), known without rendering it; None of any other."""
    rng = _generators(seed, index)[0]
    return sample_plan(rng) if _is_whole(rng) else None


def pose_of(seed: int, index: int, count: int) -> People:
    """The pose alone, on a canvas of `POSE_PX`, of `count` whole figures: number `index` of the endless set `seed`."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, index, count)))
    people = tuple(sample_person(rng) for _ in range(count))
    return render_buffers(ScenePlan("photo", "studio", "day", people), POSE_PX, rng, supersample=1).people


def _is_whole(rng: np.random.Generator) -> bool:
    """The first thing that is decided of an image."""
    return bool(rng.random() < FULL_SHARE)


def make_sample(seed: int, index: int, size: int = 128, phrasing: Phrasing = "seen") -> Sample:
    """Sample `index` of the endless set `seed`: the same on every machine and number of workers.

    `size` is the side in pixels (64 to 1024). `extras`: the person label map `mask` (uint8, 0 nobody) and three further
    wordings of the caption (`captions`, the last one short). Per person, left to right as `people`: the colours of top
    and bottom (`top_colours`, `bottom_colours`: None under a dress or robe), whether the caption names the top
    (`named`; it may name the bottom where `bottoms_seen` is true), how much is in view (`framings`: of
    `framing.VIEWS`), and the visibility that an annotator would note (`annotated`, n x 17: most hidden joints are left
    out, see `framing.annotated`). `framing`: "real" if drawn from the distribution of photographs, or "full".
    """
    if not 64 <= size <= 1024:
        raise ValueError(f"size = {size}: Atelier draws 64 to 1024 pixels; choose a size in that range")
    rng, words = _generators(seed, index)
    made = stage_image(rng, size)
    plan, buffers, views = made.plan, made.buffers, made.views
    image = paint(plan, buffers, rng, size)
    step = buffers.person.shape[0] // size
    caption = describe(plan, words, phrasing, views)
    return Sample(
        key=f"{seed:06d}-{index:09d}",
        image=image,
        caption=caption,
        people=buffers.people,
        scene=plan.scene,
        source=SOURCE,
        license=LICENSE,
        extras={
            "mask": np.ascontiguousarray(buffers.person[step // 2 :: step, step // 2 :: step]),
            "captions": [describe(plan, words, phrasing, views, short=i == N_REWORDINGS - 1)
                         for i in range(N_REWORDINGS)],
            "place": plan.place,
            "light": plan.light,
            "top_colours": [person.top.color for person in plan.people],
            "bottom_colours": [person.bottom.color if person.bottom else None for person in plan.people],
            "named": [view.top for view in views],
            "bottoms_seen": [view.bottom for view in views],
            "framings": [view.framing for view in views],
            "framing": "real" if made.framed else "full",
            "annotated": annotated(buffers.people, words).tolist(),
        },
    )  # fmt: skip
