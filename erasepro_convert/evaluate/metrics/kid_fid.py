"""Distances between two sets of images, given as features: KID and FID.

Features are rows (n × d).  Both distances are 0 between equal distributions and have the square
of the features' unit.  A value means little without n: FID itself falls as n grows, and so does
KID's noise.  ``distance_interval`` tells whether one value differs from another.
"""

from collections.abc import Iterator
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

SUBSETS = 100
SUBSET_SIZE = 1000
"""KID's subsets, as in clean-fid, which the paper's protocol uses."""

SEED = 0
"""The seed by which subsets are chosen."""


def kid(x: ArrayLike, y: ArrayLike) -> float:
    """Return the paper's KID of x (n × d) and y (m × d).

    KID is the unbiased MMD² with the kernel (x·y/d + 1)³: Bińkowski et al., *Demystifying MMD
    GANs* (2018).  A set of up to 1000 rows is used as a whole.  For a larger set the result is the
    mean over 100 fixed subsets of 1000 rows.  clean-fid draws min(n, m, 1000) rows from both: its
    value is equal where n = m ≤ 1000, and equal on average elsewhere.

    KID can be negative.  Where both sets have the same prompts and seeds it is biased downwards,
    by 2/n of how much more an image resembles itself than another: see ``kid_paired``.  Where the
    prompts differ it is biased upwards, since images of one prompt resemble each other.

    Raises ValueError for fewer than two rows, for widths that differ and for values that are not
    finite.
    """
    x, y = features(x, y)
    if max(len(x), len(y)) <= SUBSET_SIZE:
        return _kid(x, y)
    subsets = zip(_subsets(len(x), SEED), _subsets(len(y), SEED + 1), strict=True)
    return float(np.mean([_kid(x[rows_x], y[rows_y]) for rows_x, rows_y in subsets]))


def kid_paired(x: ArrayLike, y: ArrayLike) -> float:
    """Return KIDp of x and y (both n × d), where row i of both has the same prompt and seed.

    KIDp is KID without the pairs (xᵢ, yᵢ), which are not independent: Gretton et al., *A Kernel
    Two-Sample Test* (2012).  It is exactly 0 for identical sets.  Where n is above 1000, subsets
    take the same rows of x and y.

    Raises ValueError as ``kid`` does, and where x and y have different numbers of rows.
    """
    x, y = features(x, y)
    if len(x) != len(y):
        raise ValueError(f"{len(x)} and {len(y)} rows cannot be pairs")
    if x is y:
        return 0.0  # subsets are copies, of which rounding could say otherwise
    if len(x) <= SUBSET_SIZE:
        return _kid_paired(x, y)
    return float(np.mean([_kid_paired(x[rows], y[rows]) for rows in _subsets(len(x), SEED)]))


def fid(x: ArrayLike, y: ArrayLike) -> float:
    """Return FID of x (n × d) and y (m × d): the squared Fréchet distance of fitted Gaussians.

    ‖μ_x − μ_y‖² + tr(C_x) + tr(C_y) − 2·tr((C_x·C_y)^½), Heusel et al., *GANs Trained by a Two
    Time-Scale Update Rule* (2017), with C of divisor n − 1.  With C_x = AᵀA and C_y = BᵀB
    the last trace is the nuclear norm of A·Bᵀ, which needs no root of a singular d × d matrix.

    Raises ValueError as ``kid`` does.
    """
    x, y = features(x, y)
    between_means = x.mean(0) - y.mean(0)
    a, b = _root(x), _root(y)
    trace = np.linalg.norm(a @ b.T, "nuc")
    distance = float(between_means @ between_means + (a * a).sum() + (b * b).sum() - 2 * trace)
    return max(distance, 0.0)  # below 0 is rounding


def features(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Return x and y as checked float64 arrays, and one and the same array where they are equal.

    Products of one array with itself then have the same bits, so that their differences are
    exactly 0.  Raises ValueError as ``kid`` does.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    for rows in (x, y):
        if rows.ndim != 2 or len(rows) < 2 or not rows.shape[1]:
            raise ValueError(f"features must be two rows or more, not of shape {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError("features that are not finite")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"features of {x.shape[1]} and {y.shape[1]} numbers")
    return x, (x if np.array_equal(x, y) else y)


def kernel(x: Array, y: Array) -> Array:
    """Return the kernel (x·y/d + 1)³ of each row of x with each row of y (n × m)."""
    k = x @ y.T
    k /= x.shape[1]
    k += 1
    cube: Array = k * k * k
    return cube


def _kid(x: Array, y: Array) -> float:
    between = float(kernel(x, y).mean())
    return _mean_off_diagonal(kernel(x, x)) + _mean_off_diagonal(kernel(y, y)) - 2 * between


def _kid_paired(x: Array, y: Array) -> float:
    return _mean_off_diagonal(kernel(x, x) + kernel(y, y) - 2 * kernel(x, y))


def _mean_off_diagonal(k: Array) -> float:
    """Return the mean of a matrix (n × n) without its diagonal."""
    return float((k.sum() - k.trace()) / (len(k) * (len(k) - 1)))


def _subsets(n: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Give the row numbers of each subset of n rows."""
    generator = np.random.default_rng(seed)
    for _ in range(SUBSETS):
        yield generator.permutation(n)[:SUBSET_SIZE]


def _root(x: Array) -> Array:
    """Return A with AᵀA = the covariance (d × d) of x; A has d rows at most."""
    a: Array = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    if len(a) <= a.shape[1]:
        return a
    return cast(Array, np.linalg.qr(a, mode="r"))  # numpy's types say Q and R
