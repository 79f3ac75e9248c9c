"""Bootstrap intervals and paired comparisons against scipy, theory and known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from humansd.metrics.bootstrap import bootstrap_interval, mean_of, paired_comparison
from humansd.metrics.distances import Moments, frechet_distance
from humansd.metrics.errors import MetricWarning


def test_the_interval_of_a_mean_is_scipys():
    values = np.random.default_rng(0).exponential(size=200)
    ours = bootstrap_interval(mean_of(values), 200, n_draws=4000, confidence=0.9)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=4000, confidence_level=0.9, method="percentile", random_state=1
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean(), rel=1e-12)
    error = values.std() / math.sqrt(200)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=0.15 * error)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(150):
        interval = bootstrap_interval(mean_of(rng.normal(size=60)), 60, n_draws=200, seed=trial)
        hits += interval.low <= 0 <= interval.high
    assert 0.88 <= hits / 150 <= 0.99


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), st.integers(0, 2**32 - 1))
def test_intervals_are_ordered_repeatable_and_shift_with_the_values(values, seed):
    first, again, moved = (
        bootstrap_interval(mean_of(np.array(values) + shift), len(values), n_draws=50, seed=seed) for shift in (0, 0, 5)
    )
    assert first == again
    assert min(values) - 1e-9 <= first.low <= first.high <= max(values) + 1e-9
    assert moved.low == pytest.approx(first.low + 5, abs=1e-9)


def test_a_statistic_of_the_set():
    x, y = np.random.default_rng(2).normal(size=(2, 80, 3))
    reference = Moments.empty(3).update(y)

    def distance(draws):
        return frechet_distance(Moments.empty(3).update(np.repeat(x, draws, axis=0)), reference)

    interval = bootstrap_interval(distance, 80, n_draws=50)
    assert interval.value == frechet_distance(Moments.empty(3).update(x), reference)
    assert 0 < interval.low < interval.high


def test_pairs_show_what_two_intervals_hide():
    rng = np.random.default_rng(3)
    hard = rng.normal(0, 1, 100)
    first, second = hard + 0.05 + rng.normal(0, 0.05, 100), hard + rng.normal(0, 0.05, 100)
    paired = paired_comparison(mean_of(first), mean_of(second), 100)
    alone = [bootstrap_interval(mean_of(v), 100) for v in (first, second)]
    assert alone[0].low < alone[1].high
    assert 0 < paired.low < paired.difference < paired.high
    assert paired.difference == pytest.approx((first - second).mean(), rel=1e-9)
    assert paired.p == pytest.approx(2 / 1001)
    mirrored = paired_comparison(mean_of(second), mean_of(first), 100)
    assert (mirrored.difference, mirrored.low, mirrored.p) == pytest.approx(
        (-paired.difference, -paired.high, paired.p)
    )


def test_p_is_one_for_equals_and_uniform_for_models_as_good():
    values = np.arange(10.0)
    same = paired_comparison(mean_of(values), mean_of(values), 10)
    assert (same.difference, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)
    rng = np.random.default_rng(4)
    p = [
        paired_comparison(*(mean_of(rng.normal(size=50)) for _ in range(2)), 50, n_draws=200, seed=trial).p
        for trial in range(150)
    ]
    assert scipy.stats.kstest(p, "uniform").pvalue > 0.01


def test_images_without_a_value_do_not_count():
    values = np.array([1.0, np.nan, 3.0])
    assert mean_of(values)(np.array([1, 5, 1])) == 2.0
    assert math.isnan(mean_of(values)(np.array([0, 3, 0])))
    with pytest.warns(MetricWarning, match=r"the statistic is NaN in \d+ of 500 draws"):
        interval = bootstrap_interval(mean_of(values), 3, n_draws=500)
    assert (interval.value, interval.low, interval.high) == (2.0, 1.0, 3.0)
    with pytest.warns(MetricWarning, match="NaN in 20 of 20 draws"):
        assert math.isnan(paired_comparison(mean_of([np.nan] * 3), mean_of(values), 3, n_draws=20).p)


def test_too_few_images_give_nan_ends_and_a_warning():
    with pytest.warns(MetricWarning, match="an interval over 1 images is NaN"):
        one = bootstrap_interval(mean_of([0.5]), 1)
    assert one.value == 0.5
    assert math.isnan(one.low)
    with pytest.warns(MetricWarning, match="over 0 images"):
        assert math.isnan(bootstrap_interval(mean_of([]), 0).value)
    with pytest.warns(MetricWarning, match="over 1 images"):
        alone = paired_comparison(mean_of([0.5]), mean_of([0.25]), 1)
    assert alone.difference == 0.25
    assert math.isnan(alone.p)


@pytest.mark.parametrize(("n_draws", "confidence"), [(0, 0.95), (10, 0.0), (10, 1.0)])
def test_nonsense_is_refused(n_draws, confidence):
    with pytest.raises(ValueError, match="needs 1 or more, between 0 and 1"):
        bootstrap_interval(mean_of([1.0, 2.0]), 2, n_draws=n_draws, confidence=confidence)


def test_the_interval_of_a_statistic_that_repeats_enlarge_holds_its_value():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(60, 12)), rng.normal(0.2, 1, size=(60, 12))

    def distance(draws):
        return frechet_distance(*(Moments.empty(12).update(np.repeat(x, draws, axis=0)) for x in (first, second)))

    plain, moved = (bootstrap_interval(distance, 60, n_draws=200, biased=biased) for biased in (False, True))
    assert plain.low > plain.value
    assert moved.low < moved.value < moved.high
    assert moved.value == plain.value
    assert moved.high - moved.low == pytest.approx(plain.high - plain.low)


def test_the_difference_of_statistics_that_repeats_enlarge_unequally_lies_in_its_interval():
    rng = np.random.default_rng(1)
    reference = Moments.empty(40).update(rng.normal(size=(60, 40)))

    def distance_of(x):
        return lambda draws: frechet_distance(Moments.empty(40).update(np.repeat(x, draws, axis=0)), reference)

    # Far and narrow against near and wide: about as distant, and repeats enlarge the second far more.
    narrow, wide = distance_of(rng.normal(1.2, 0.1, (60, 40))), distance_of(rng.normal(0, 2.2, (60, 40)))
    plain, moved = (paired_comparison(narrow, wide, 60, n_draws=100, biased=biased) for biased in (False, True))
    assert plain.high < 0 < plain.difference
    assert moved.low < moved.difference < moved.high
    assert moved.high - moved.low == pytest.approx(plain.high - plain.low)
    same = paired_comparison(wide, wide, 60, n_draws=50, biased=True)
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)
