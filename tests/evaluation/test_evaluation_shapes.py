"""Real images of another shape than the model's: what they cost a model that is perfect, in Frechet distance.

The perfect model's images are other images of the same maker, so a distance is that of two samples of one kind.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from humansd.data.sample import Sample
from humansd.evaluation.evaluate import Cut
from humansd.metrics.distances import Moments, frechet_distance
from humansd.models.features import load_extractor
from whole_images import whole_samples

COUNT, SIDE, BESIDE, ABOVE = 256, 128, 21, 16  # 170 x 128 and 128 x 96 px are 4:3
SQUARE, OWN = (SIDE, SIDE), (SIDE, SIDE - 2 * ABOVE)


def widened(sample: Sample, left: int = BESIDE, right: int = BESIDE) -> Sample:
    """With more scenery, here a mirror image, at the sides."""
    image = np.pad(sample.image, ((0, 0), (left, right), (0, 0)), mode="reflect")
    return replace(sample, image=image, people=sample.people.pad(left, 0, right, 0), extras={})


def sliced(sample: Sample) -> Sample:
    people = sample.people.crop(0, ABOVE, *OWN)
    return replace(sample, image=sample.image[ABOVE : SIDE - ABOVE].copy(), people=people, extras={})


def barred(sample: Sample) -> np.ndarray:
    """As it was: black above and below."""
    return np.pad(sample.image, ((ABOVE, ABOVE), (0, 0), (0, 0)))


class Distances:
    """Frechet distances of cut real images from those of the perfect model, in pocket features."""

    def __init__(self, real: list[Sample], made: list[Sample]) -> None:
        self.real, self.ways, self._extractor = real, Counter(), load_extractor("pocket")
        self.made = self.moments([one.image for one in made])
        self.made_own = self.moments([sliced(one).image for one in made])

    def moments(self, images: list[np.ndarray]) -> Moments:
        return Moments.empty(self._extractor.width).update(self._extractor.extract(images))

    def of(self, real: list[Sample], size=SQUARE) -> float:
        cuts = [Cut.of(sample, size) for sample in real]
        self.ways = Counter(cut.way for cut in cuts)
        made = self.made if size == SQUARE else self.made_own
        return frechet_distance(self.moments([cut.image for cut in cuts]), made)


@pytest.fixture(scope="module")
def distances() -> Distances:
    """Of whole figures, for which the bars of these tests were set."""
    return Distances(*(whole_samples(seed, COUNT, SIDE) for seed in (11, 12)))


@pytest.fixture(scope="module")
def square(distances) -> float:
    return distances.of(distances.real)


def test_more_scenery_at_the_sides_changes_nothing(distances, square):
    assert distances.of([widened(one) for one in distances.real]) == pytest.approx(square, rel=1e-6)
    assert distances.ways == {"window": COUNT}


def test_more_scenery_at_one_side_changes_a_tenth_at_most(distances, square):
    sides = [(2 * BESIDE, 0), (0, 2 * BESIDE)]
    moved = [widened(one, *sides[i % 2]) for i, one in enumerate(distances.real)]
    assert distances.of(moved) == pytest.approx(square, rel=0.1)
    assert distances.ways == {"window": COUNT}


def test_a_slice_costs_a_little_where_bars_cost_a_multiple(distances, square):
    real = [sliced(one) for one in distances.real]
    cut = distances.of(real)
    assert 0.1 * COUNT < distances.ways["centre"] < 0.2 * COUNT  # 96 px do not hold everyone
    assert cut <= 11  # 9.9; few images make distances too large: 200 give 12.4 and their squares 9.5
    assert frechet_distance(distances.moments([barred(one) for one in real]), distances.made) > 3 * cut


def test_a_model_of_that_shape_is_as_good_as_one_of_squares(distances, square):
    assert distances.of([sliced(one) for one in distances.real], OWN) == pytest.approx(square, rel=0.1)
    assert distances.ways == {"whole": COUNT}
