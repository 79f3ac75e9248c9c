"""Samples of Atelier that show whole, large figures, as edition 1 did: the ones that weights of that edition know."""

from __future__ import annotations

import itertools

from humansd.data.sample import Sample
from humansd.synthetic.render import is_whole, make_sample


def whole_samples(seed: int, count: int, size: int) -> list[Sample]:
    """The first `count` of the set `seed`."""
    indices = (index for index in itertools.count() if is_whole(seed, index))
    return [make_sample(seed, index, size) for index in itertools.islice(indices, count)]
