"""Frechet and kernel distance of two sets of features (n, d): FID and KID where the features are Inception-v3's.

The extractor is elsewhere. On other features the numbers are no FID and no KID, and do not compare with published ones.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg.blas import dsyrk

from humansd.core.arrays import Float64s
from humansd.metrics.errors import MetricWarning

EPS = float(np.finfo(np.float64).eps)
BLOCK = 1024  # rows of a kernel matrix at a time


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of features seen so far: all that the Frechet distance needs, in constant memory.

    n: features counted; mean: (d,); upper: (d, d), the upper triangle of the sum of (x - mean)(x - mean)^T, zeros
    below; left_out: rows with NaN or infinity, not counted.
    """

    n: int
    mean: Float64s
    upper: Float64s
    left_out: int = 0

    @classmethod
    def empty(cls, width: int) -> Moments:
        """No features of `width` numbers."""
        return cls(0, np.zeros(width), np.zeros((width, width), order="F"))

    def update(self, features: ArrayLike) -> Moments:
        """The moments with these features (n, d) added; NaN and infinity are left out with a `MetricWarning`.

        Chan, Golub, LeVeque 1983: batches are centred before they are squared, so nothing cancels where the mean is
        far from 0. Any split into batches gives the same numbers to rounding.

        Raises:
            ValueError: features that are not (n, d) numbers of this width.
        """
        rows, left_out = _finite_rows(features, len(self.mean))
        if not len(rows):
            return Moments(self.n, self.mean, self.upper, self.left_out + left_out)
        mean, step = self._joint_mean(len(rows), rows.mean(axis=0))
        centred = np.vstack([rows - rows.mean(axis=0), step])
        upper = dsyrk(1.0, centred.T, beta=1.0, c=self.upper)
        return Moments(self.n + len(rows), mean, upper, self.left_out + left_out)

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets together."""
        if len(self.mean) != len(other.mean):
            raise ValueError(f"features of width {len(self.mean)} and {len(other.mean)} do not merge")
        left_out = self.left_out + other.left_out
        if not self.n + other.n:
            return Moments(0, self.mean, self.upper, left_out)
        mean, step = self._joint_mean(other.n, other.mean)
        return Moments(self.n + other.n, mean, dsyrk(1.0, step.T, beta=1.0, c=self.upper + other.upper), left_out)

    def covariance(self) -> Float64s:
        """(d, d), unbiased; NaN with fewer than 2 features."""
        if self.n < 2:
            return np.full_like(self.upper, np.nan)
        return np.asarray((self.upper + np.triu(self.upper, 1).T) / (self.n - 1))

    def _joint_mean(self, n: int, mean: Float64s) -> tuple[Float64s, Float64s]:
        """Mean with n more of this mean, and the row (1, d) whose square the gap of the means adds to the scatter."""
        gap = mean - self.mean
        return self.mean + gap * (n / (self.n + n)), gap[None] * np.sqrt(self.n * n / (self.n + n))


def frechet_distance(a: Moments, b: Moments) -> float:
    """|mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)), 0 or more (Heusel et al. 2017, Eq. 6), in float64.

    NaN with a `MetricWarning` where a set has fewer than 2 features.

    Raises:
        ValueError: sets of different width.
    """
    if len(a.mean) != len(b.mean):
        raise ValueError(f"features of width {len(a.mean)} and {len(b.mean)} have no distance")
    if min(a.n, b.n) < 2:
        warnings.warn(f"a Frechet distance of {a.n} and {b.n} features is NaN", MetricWarning, stacklevel=2)
        return float("nan")
    first, second = a.covariance(), b.covariance()
    traces = float(np.trace(first) + np.trace(second))
    root = _root_trace_by_cholesky(first, second, 1e-8 * traces) if min(a.n, b.n) > len(a.mean) else None
    if root is None:
        root = _root_trace_by_factors(_factor(first, a.n - 1), _factor(second, b.n - 1))
    gap = a.mean - b.mean
    return max(0.0, float(gap @ gap) + traces - 2 * root)


def _root_trace_by_cholesky(a: Float64s, b: Float64s, tolerance: float) -> float | None:
    """tr (A B)^(1/2) from the eigenvalues of L^T B L with A = L L^T, which are those of A B; None where inexact.

    The quick way. The root of an eigenvalue v near 0 magnifies its rounding error e to e / 2 sqrt(v), at worst sqrt(e).
    """
    try:
        factor = np.linalg.cholesky(a)
    except np.linalg.LinAlgError:
        return None
    values = np.linalg.eigvalsh(factor.T @ b @ factor)
    roots, error = np.sqrt(values.clip(0)), 4 * EPS * max(float(values[-1]), 0.0)
    at_worst = np.minimum(np.sqrt(error), error / (2 * np.maximum(roots, np.finfo(float).tiny)))
    return float(roots.sum()) if at_worst.sum() <= tolerance else None


def _root_trace_by_factors(a: Float64s, b: Float64s) -> float:
    """tr (A B)^(1/2) as the sum of the singular values of F^T G, with A = F F^T and B = G G^T of any rank.

    They are the roots themselves, so none is the root of a rounding error.
    """
    return float(np.linalg.svd(a.T @ b, compute_uv=False).sum()) if a.size and b.size else 0.0


def _factor(covariance: Float64s, rank: int) -> Float64s:
    """F (d, r) with F F^T the covariance, r at most `rank`."""
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[-rank:], vectors[:, -rank:]
    real = values > 4 * EPS * max(float(values[-1]), 0.0)
    return np.asarray(vectors[:, real] * np.sqrt(values[real]))


@dataclass(frozen=True)
class Features:
    """All features seen so far, which the kernel distance needs.

    rows: float64 (n, d), finite; left_out: rows with NaN or infinity.
    """

    rows: Float64s
    left_out: int = 0

    @classmethod
    def of(cls, features: ArrayLike) -> Features:
        """Features (n, d); NaN and infinity are left out with a `MetricWarning`, other shapes are a ValueError."""
        return cls(*_finite_rows(features))

    def merge(self, other: Features) -> Features:
        """The features of both sets together."""
        _same_width(self, other)
        return Features(np.concatenate([self.rows, other.rows]), self.left_out + other.left_out)


def kernel_distance(a: Features, b: Features) -> float:
    """Squared maximum mean discrepancy with k(x, y) = (x.y / d + 1)^3, unbiased, so also below 0.

    Binkowski et al. 2018, sec. 4; Gretton et al. 2012, Eq. 3. Over all features: time n^2 d, memory n d.
    NaN with a `MetricWarning` where a set has fewer than 2 features.

    Raises:
        ValueError: sets of different width.
    """
    _same_width(a, b)
    if min(len(a.rows), len(b.rows)) < 2:
        text = f"a kernel distance of {len(a.rows)} and {len(b.rows)} features is NaN"
        warnings.warn(text, MetricWarning, stacklevel=2)
        return float("nan")
    return _unbiased(a.rows, b.rows)


@dataclass(frozen=True)
class KernelDistance:
    """mean and std: of the kernel distance over random subsets; std is NaN where there was but one."""

    mean: float
    std: float
    n_subsets: int
    subset_size: int


def kernel_distance_of_subsets(
    a: Features, b: Features, *, n_subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> KernelDistance:
    """Mean and standard deviation of `kernel_distance` over subsets, as KID is published (Binkowski et al. 2018).

    Subsets are drawn without replacement from the features put in one order first, so the order in which they came
    does not matter. With fewer than `subset_size` features in a set, all features are the one subset and a
    `MetricWarning` says so: subsets that overlap wholly would promise a certainty that is not there.
    """
    _same_width(a, b)
    smaller = min(len(a.rows), len(b.rows))
    if subset_size < 2 or n_subsets < 1:
        raise ValueError(f"{n_subsets} subsets of {subset_size} features: needs 1 or more, of 2 or more")
    if smaller < subset_size:
        text = f"{smaller} features are fewer than a subset of {subset_size}: one distance over all, without deviation"
        warnings.warn(text, MetricWarning, stacklevel=2)
        return KernelDistance(kernel_distance(a, b), float("nan"), 1, smaller)
    rng = np.random.default_rng(seed)
    first, second = _in_one_order(a.rows), _in_one_order(b.rows)
    distances = [
        _unbiased(*(rows[rng.choice(len(rows), subset_size, replace=False)] for rows in (first, second)))
        for _ in range(n_subsets)
    ]
    return KernelDistance(float(np.mean(distances)), float(np.std(distances)), n_subsets, subset_size)


def _unbiased(a: Float64s, b: Float64s) -> float:
    n, m = len(a), len(b)
    within = [(_kernel_sum(x, x) - _kernel(np.einsum("nd,nd->n", x, x), x.shape[1]).sum()) for x in (a, b)]
    return float(within[0] / (n * (n - 1)) + within[1] / (m * (m - 1)) - 2 * _kernel_sum(a, b) / (n * m))


def _kernel_sum(a: Float64s, b: Float64s) -> float:
    return float(sum(_kernel(a[i : i + BLOCK] @ b.T, a.shape[1]).sum() for i in range(0, len(a), BLOCK)))


def _kernel(products: Float64s, width: int) -> Float64s:
    base = products / width + 1
    return np.asarray(base * base * base)


def _in_one_order(rows: Float64s) -> Float64s:
    """The rows sorted by their bytes: any order will do that does not depend on the one given."""
    rows = np.ascontiguousarray(rows)
    return rows[np.argsort(rows.view(f"V{rows.strides[0]}").ravel())]


def _same_width(a: Features, b: Features) -> None:
    if a.rows.shape[1] != b.rows.shape[1]:
        raise ValueError(f"features of width {a.rows.shape[1]} and {b.rows.shape[1]} do not go together")


def _finite_rows(features: ArrayLike, width: int | None = None) -> tuple[Float64s, int]:
    """The rows without NaN and infinity, float64, and the number of others."""
    rows = np.asarray(features)
    if rows.ndim != 2 or rows.dtype.kind not in "iuf" or rows.shape[1] != (rows.shape[1] if width is None else width):
        expected = "(n, d)" if width is None else f"(n, {width})"
        raise ValueError(f"features have the shape {rows.shape} of {rows.dtype}, expected {expected} of real numbers")
    rows = rows.astype(np.float64)
    finite = np.isfinite(rows).all(axis=1)
    left_out = int((~finite).sum())
    if left_out:
        warnings.warn(f"{left_out} of {len(rows)} features hold NaN or infinity: left out", MetricWarning, stacklevel=3)
    return rows[finite], left_out
