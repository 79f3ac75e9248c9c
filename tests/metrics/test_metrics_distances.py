"""Frechet and kernel distance against the textbook formulas and naive loops."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from humansd.metrics.distances import (
    Features,
    Moments,
    frechet_distance,
    kernel_distance,
    kernel_distance_of_subsets,
)
from humansd.metrics.errors import MetricWarning


def features(seed: int, n: int, d: int, rank: int | None = None, shift: float = 0.0) -> np.ndarray:
    """(n, d) correlated numbers with a falling spectrum, of the given rank."""
    rng = np.random.default_rng(seed)
    rank = rank or d
    return rng.normal(size=(n, rank)) * np.geomspace(1, 0.05, rank) @ rng.normal(size=(rank, d)) + shift


def moments(x: np.ndarray) -> Moments:
    return Moments.empty(x.shape[1]).update(x)


def by_sqrtm(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The textbook Frechet distance, and tr A + tr B."""
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    traces = float(np.trace(a) + np.trace(b))
    gap = x.mean(axis=0) - y.mean(axis=0)
    return float(gap @ gap + traces - 2 * np.trace(scipy.linalg.sqrtm(a @ b)).real), traces


def by_singular_values(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The same for any rank: tr (A B)^(1/2) is the sum of the singular values of the product of the centred data."""
    a, b = ((z - z.mean(axis=0)) / math.sqrt(len(z) - 1) for z in (x, y))
    traces = float((a**2).sum() + (b**2).sum())
    gap = x.mean(axis=0) - y.mean(axis=0)
    return float(gap @ gap + traces - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()), traces


@pytest.mark.parametrize(("d", "shift"), [(1, 0.0), (8, 0.5), (64, 100.0)])
def test_frechet_equals_the_textbook_formula_at_full_rank(d, shift):
    x, y = features(0, 5 * d + 5, d), features(1, 4 * d + 5, d, shift=shift)
    if d == 1:  # two normal distributions on a line have a formula of their own
        expected, traces = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2, 1.0
    else:
        expected, traces = by_sqrtm(x, y)
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(expected, abs=1e-6 * traces)


@pytest.mark.parametrize(
    ("n", "m", "ranks"),
    [(20, 30, (None, None)), (200, 30, (None, None)), (300, 300, (10, 40)), (2, 2, (None, None)), (300, 9, (64, 3))],
)
def test_frechet_equals_the_singular_values_where_rank_is_deficient(n, m, ranks):
    x, y = features(2, n, 64, ranks[0]), features(3, m, 64, ranks[1], shift=0.1)
    expected, traces = by_singular_values(x, y)
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(expected, abs=1e-6 * traces)


def test_frechet_of_features_that_are_dead_or_twins():
    x, y = features(4, 300, 16), features(5, 300, 16)
    for z in (x, y):
        z[:, 3], z[:, 7] = 0.0, z[:, 8]
    expected, traces = by_singular_values(x, y)
    assert frechet_distance(moments(x), moments(y)) == pytest.approx(expected, abs=1e-6 * traces)
    constant = moments(np.full((5, 16), 2.0))
    assert frechet_distance(constant, moments(np.full((9, 16), 3.0))) == pytest.approx(16.0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 12))
def test_frechet_is_a_distance(seed, n, d):
    x, y = features(seed, n, d), features(seed + 1, n + 1, d)
    a, b = moments(x), moments(y)
    scale = float(np.trace(a.covariance()) + np.trace(b.covariance()))
    assert 0 <= frechet_distance(a, a) <= 1e-6 * scale
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), abs=1e-6 * scale)
    moved = moments(x + np.arange(d))
    assert frechet_distance(a, moved) == pytest.approx((np.arange(d) ** 2).sum(), abs=1e-6 * (scale + d**3))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 60), max_size=6))
def test_moments_do_not_depend_on_batches_order_or_merging(seed, cuts):
    rng = np.random.default_rng(seed)
    x = features(seed, 60, 5) + 1e4  # far from 0, where sums of squares would cancel
    batches = np.split(rng.permutation(x), sorted(cuts))
    streamed, merged = Moments.empty(5), Moments.empty(5)
    for batch in batches:
        streamed, merged = streamed.update(batch), merged.merge(moments(batch))
    for state in (streamed, merged):
        assert state.n == 60
        np.testing.assert_allclose(state.mean, x.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(state.covariance(), np.cov(x, rowvar=False), rtol=1e-7, atol=1e-9)


def test_moments_are_not_changed_by_update_or_merge():
    a = moments(features(0, 20, 4))
    before = a.mean.copy(), a.upper.copy()
    a.update(features(1, 20, 4))
    a.merge(moments(features(2, 20, 4)))
    assert (a.mean == before[0]).all()
    assert (a.upper == before[1]).all()


def naive_kernel_distance(x: np.ndarray, y: np.ndarray) -> float:
    def k(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    within_x = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


@pytest.mark.parametrize(("n", "m", "d"), [(2, 2, 1), (13, 9, 7), (40, 31, 64)])
def test_kernel_distance_equals_a_double_loop(n, m, d):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(n, d)), rng.normal(0.3, 1.2, size=(m, d))
    assert kernel_distance(Features.of(x), Features.of(y)) == pytest.approx(naive_kernel_distance(x, y), abs=1e-9)


def test_kernel_distance_in_blocks():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1500, 4)), rng.normal(0.3, 1.2, size=(1100, 4))
    xx, yy, xy = ((a @ b.T / 4 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    expected = (xx.sum() - np.trace(xx)) / (1500 * 1499) + (yy.sum() - np.trace(yy)) / (1100 * 1099) - 2 * xy.mean()
    assert kernel_distance(Features.of(x), Features.of(y)) == pytest.approx(expected, abs=1e-9)


def test_kernel_distance_is_unbiased_and_its_subsets_say_so():
    rng = np.random.default_rng(1)
    a, b = (Features.of(rng.normal(size=(600, 16))) for _ in range(2))
    subsets = kernel_distance_of_subsets(a, b, n_subsets=60, subset_size=100, seed=3)
    assert abs(kernel_distance(a, b)) < 0.02
    assert abs(subsets.mean) < 3 * subsets.std
    assert subsets == kernel_distance_of_subsets(a, b, n_subsets=60, subset_size=100, seed=3)
    assert subsets != kernel_distance_of_subsets(a, b, n_subsets=60, subset_size=100, seed=4)
    # Over many small subsets the mean is that over all features.
    far = Features.of(rng.normal(0.5, 1, size=(500, 16)))
    many = kernel_distance_of_subsets(a, far, n_subsets=400, subset_size=50)
    assert many.mean == pytest.approx(kernel_distance(a, far), abs=4 * many.std / 20)


def test_kernel_distances_do_not_depend_on_batches_or_order():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(90, 5)), rng.normal(size=(80, 5))
    y[7] = y[8]
    merged = Features.of(np.zeros((0, 5)))
    for batch in np.array_split(rng.permutation(x), 4):
        merged = merged.merge(Features.of(batch))
    whole, other, reverse = Features.of(x), Features.of(y), Features.of(y[::-1])
    assert kernel_distance(merged, reverse) == pytest.approx(kernel_distance(whole, other), abs=1e-12)
    subsets = [kernel_distance_of_subsets(*p, subset_size=20, seed=5) for p in ((whole, other), (merged, reverse))]
    assert subsets[0] == subsets[1]


def test_nan_and_infinity_are_left_out_with_a_warning():
    x, y = features(0, 30, 4), features(1, 30, 4)
    spoilt = np.vstack([x, [[np.nan, 0, 0, 0], [0, np.inf, 0, 0]]])
    with pytest.warns(MetricWarning, match="2 of 32 features hold NaN or infinity"):
        a = moments(spoilt)
    with pytest.warns(MetricWarning, match="2 of 32"):
        rows = Features.of(spoilt)
    assert (a.n, a.left_out, a.merge(a).left_out, rows.left_out) == (30, 2, 4, 2)
    assert frechet_distance(a, moments(y)) == frechet_distance(moments(x), moments(y))
    with pytest.warns(MetricWarning, match="1 of 1 "):
        assert Moments.empty(1).update([[np.nan]]).n == 0


def test_too_few_features_give_nan_and_a_warning():
    x = features(0, 30, 4)
    for n in (0, 1):
        with pytest.warns(MetricWarning, match=f"Frechet distance of {n} and 30 features is NaN"):
            assert math.isnan(frechet_distance(moments(x[:n]), moments(x)))
        with pytest.warns(MetricWarning, match=f"kernel distance of {n} and 30 features is NaN"):
            assert math.isnan(kernel_distance(Features.of(x[:n]), Features.of(x)))
    assert np.isnan(moments(x[:1]).covariance()).all()
    with pytest.warns(MetricWarning, match="10 features are fewer than a subset of 1000"):
        few = kernel_distance_of_subsets(Features.of(x[:10]), Features.of(x))
    assert few.mean == kernel_distance(Features.of(x[:10]), Features.of(x))
    assert math.isnan(few.std)
    assert (few.n_subsets, few.subset_size) == (1, 10)


def test_what_does_not_go_together_is_refused():
    a, b = moments(features(0, 9, 3)), moments(features(0, 9, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="width 3 and 4"):
            frechet_distance(a, b)
        with pytest.raises(ValueError, match="width 3 and 4"):
            a.merge(b)
        with pytest.raises(ValueError, match="width 3 and 4"):
            kernel_distance(Features.of(np.zeros((9, 3))), Features.of(np.zeros((9, 4))))
        with pytest.raises(ValueError, match=r"expected \(n, 3\)"):
            a.update(np.zeros((2, 5)))
        with pytest.raises(ValueError, match=r"expected \(n, d\) of real numbers"):
            Features.of(np.zeros(5))
        with pytest.raises(ValueError, match="of complex128"):
            Features.of(np.zeros((2, 2), complex))
        with pytest.raises(ValueError, match="needs 1 or more, of 2 or more"):
            kernel_distance_of_subsets(Features.of(np.zeros((9, 3))), Features.of(np.zeros((9, 3))), subset_size=1)
