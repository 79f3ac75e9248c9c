"""Image i of seed s: plan, layers, paint, caption, all from one generator seeded by (s, i)."""

from __future__ import annotations

import numpy as np

from humansd.atelier.captions import Phrasing, describe
from humansd.atelier.sampling import sample_plan
from humansd.atelier.stage import render_buffers
from humansd.atelier.styles import paint
from humansd.data.sample import Sample

SOURCE = "atelier"
LICENCE = "CC0-1.0"
N_REWORDINGS = 3


def make_sample(seed: int, index: int, size: int = 128, phrasing: Phrasing = "seen") -> Sample:
    """Sample `index` of the endless set `seed`: the same on every machine and number of workers.

    `size` is the side in pixels (64 to 1024). `extras` carries the person label map `mask` (uint8, 0 nobody),
    three further wordings of the caption (`captions`), and per person the colour of the top (`top_colours`).
    """
    if not 64 <= size <= 1024:
        raise ValueError(f"size = {size}: Atelier draws 64 to 1024 pixels; choose a size in that range")
    rng, words = (np.random.default_rng(s) for s in np.random.SeedSequence((seed, index)).spawn(2))
    plan = sample_plan(rng)
    buffers = render_buffers(plan, size, rng)
    image = paint(plan, buffers, rng, size)
    step = buffers.person.shape[0] // size
    return Sample(
        key=f"{seed:06d}-{index:09d}",
        image=image,
        caption=describe(plan, words, phrasing),
        people=buffers.people,
        scene=plan.scene,
        source=SOURCE,
        licence=LICENCE,
        extras={
            "mask": np.ascontiguousarray(buffers.person[step // 2 :: step, step // 2 :: step]),
            "captions": [describe(plan, words, phrasing) for _ in range(N_REWORDINGS)],
            "place": plan.place,
            "light": plan.light,
            "top_colours": [person.top.colour for person in plan.people],
        },
    )
