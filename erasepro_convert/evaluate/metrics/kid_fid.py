"""Distances between two sets of images, given as features: KID and FID.

Features are rows (n × d).  Both distances are 0 between equal distributions, are squares of what
features measure in, and say nothing without n: FID falls as n grows, KID's noise does.  Whether
one value differs from another is a question for ``distance_interval``.
"""

from collections.abc import Iterator
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

SUBSETS = 100
SUBSET_SIZE = 1000
"""Of KID, as in clean-fid, which the paper's protocol uses."""

SEED = 0
"""Of the subsets."""


def kid(x: ArrayLike, y: ArrayLike) -> float:
    """The paper's KID of x (n × d) and y (m × d): the unbiased MMD² with the kernel (x·y/d + 1)³.

    Bińkowski et al., *Demystifying MMD GANs* (2018).  A set of up to 1000 is taken as a
    whole; of a larger one, it is the mean over 100 subsets of 1000, always the same ones.
    clean-fid draws min(n, m, 1000) from both: that is the same where n = m ≤ 1000, and the same on
    average elsewhere.

    It can be negative.  Where both sets have the same prompts and seeds it is biased down, by
    2/n of what an image is more like itself than like another: see ``kid_paired``.  Where they have
    different prompts it is biased up, as images of one prompt are more like each other.

    Raises ValueError for fewer than two rows, widths that differ and values that are not finite.
    """
    x, y = features(x, y)
    if max(len(x), len(y)) <= SUBSET_SIZE:
        return _kid(x, y)
    rows = zip(_subsets(len(x), SEED), _subsets(len(y), SEED + 1), strict=True)
    return float(np.mean([_kid(x[of_x], y[of_y]) for of_x, of_y in rows]))


def kid_paired(x: ArrayLike, y: ArrayLike) -> float:
    """KIDp of x and y (both n × d), whose rows i are the same prompt and seed.

    As ``kid``, without the pairs (xᵢ, yᵢ), which are not independent: Gretton et al., *A Kernel
    Two-Sample Test* (2012).  Exactly 0 for identical sets; subsets, where n is above 1000,
    have the same rows of both.

    Raises ValueError as ``kid`` does, and where x and y do not have as many rows.
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
    """FID of x (n × d) and y (m × d): the squared Fréchet distance of the Gaussians fit to them.

    ‖μ_x − μ_y‖² + tr(C_x) + tr(C_y) − 2·tr((C_x·C_y)^½), Heusel et al., *GANs Trained by a Two
    Time-Scale Update Rule* (2017), with C of divisor n − 1.  With C_x = AᵀA and C_y = BᵀB
    the last trace is the nuclear norm of A·Bᵀ, which needs no root of a singular d × d matrix.

    Raises ValueError as ``kid`` does.
    """
    x, y = features(x, y)
    apart = x.mean(0) - y.mean(0)
    a, b = _root(x), _root(y)
    shared = np.linalg.norm(a @ b.T, "nuc")
    found = float(apart @ apart + (a * a).sum() + (b * b).sum() - 2 * shared)
    return max(found, 0.0)  # it cannot be less: that is rounding


def features(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """As float64, checked; one and the same array where they are equal.

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
    """(x·y/d + 1)³ of each row of x with each of y (n × m)."""
    k = x @ y.T
    k /= x.shape[1]
    k += 1
    cube: Array = k * k * k
    return cube


def _kid(x: Array, y: Array) -> float:
    apart = float(kernel(x, y).mean())
    return _mean_of_others(kernel(x, x)) + _mean_of_others(kernel(y, y)) - 2 * apart


def _kid_paired(x: Array, y: Array) -> float:
    return _mean_of_others(kernel(x, x) + kernel(y, y) - 2 * kernel(x, y))


def _mean_of_others(k: Array) -> float:
    """The mean off the diagonal (n × n)."""
    return float((k.sum() - k.trace()) / (len(k) * (len(k) - 1)))


def _subsets(n: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """The rows of each subset of n."""
    generator = np.random.default_rng(seed)
    for _ in range(SUBSETS):
        yield generator.permutation(n)[:SUBSET_SIZE]


def _root(x: Array) -> Array:
    """A with AᵀA = the covariance (d × d) of x; at most d rows."""
    a: Array = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    if len(a) <= a.shape[1]:
        return a
    return cast(Array, np.linalg.qr(a, mode="r"))  # numpy's types say Q and R
