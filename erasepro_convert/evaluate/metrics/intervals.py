"""Confidence intervals, all at one level."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from erasepro_convert.evaluate.metrics.kid_fid import Array

LEVEL = 0.95
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)


@dataclass(frozen=True)
class Interval:
    """An interval that holds the true value in a share ``level`` of all samples."""

    low: float
    high: float
    level: float = LEVEL

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def wilson_interval(p: float, n: float) -> Interval:
    """Return Wilson's score interval (1927) of a rate p among n images; n need not be whole."""
    middle = p + Z * Z / (2 * n)
    spread = Z * math.sqrt(p * (1 - p) / n + (Z / (2 * n)) ** 2)
    # Rounding would put the end that is exactly 0 or 1 beside it.
    low = 0.0 if p == 0 else (middle - spread) / (1 + Z * Z / n)
    high = 1.0 if p == 1 else (middle + spread) / (1 + Z * Z / n)
    return Interval(low, high)


def percentile_interval(replicates: Array) -> Interval:
    """Return the interval that holds the middle 95 % of the replicates."""
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def student_t(freedom: int) -> float:
    """Return the two-sided 95 % quantile of Student's t with ``freedom`` degrees of freedom.

    The series is Abramowitz and Stegun's 26.7.5: 0.8 % too low for two degrees of freedom, less
    than 0.2 % for more.  It is written out here because SciPy is no dependency of this package.
    """
    if freedom == 1:
        return math.tan(math.pi * LEVEL / 2)
    z, v = Z, freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    )
