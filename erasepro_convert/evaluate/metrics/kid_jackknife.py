"""Sums of KID's kernel by groups of images, from which KID without one group follows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from erasepro_convert.evaluate.metrics.kid_fid import Array, kernel

AT_ONCE = 1 << 22
"""About how many values of the kernel are held in memory at a time."""

Groups = NDArray[np.intp]
"""For each row, the number of its group."""


@dataclass(frozen=True)
class KernelSums:
    """The kernel summed over pairs of rows, and their number, by the groups of both (g × h)."""

    sums: Array
    counts: Array

    @classmethod
    def compute(
        cls, x: Array, y: Array, groups_x: Groups, groups_y: Groups, *, skip_same_row: bool
    ) -> "KernelSums":
        """Sum the kernel over pairs of rows of x (n × d) and y (m × d).

        ``skip_same_row`` leaves out the pairs of two rows with the same number.
        """
        member_x, member_y = (np.eye(int(g.max()) + 1)[g] for g in (groups_x, groups_y))
        sums, counts = np.zeros((2, member_x.shape[1], member_y.shape[1]))
        step = max(1, AT_ONCE // len(y))
        for first in range(0, len(x), step):
            rows = slice(first, first + step)
            k = kernel(x[rows], y)
            if skip_same_row:
                same = np.arange(len(k))
                k[same, same + first] = 0
            sums += member_x[rows].T @ k @ member_y
        counts += np.outer(member_x.sum(0), member_y.sum(0))
        if skip_same_row:
            counts -= member_x.T @ member_y
        return cls(sums, counts)

    def without_each(self) -> Array:
        """Return the kernel's mean without the rows of one group in x and in y, by group (g)."""
        return _without_row_and_column(self.sums) / _without_row_and_column(self.counts)

    def without_each_of_x(self) -> Array:
        """Return the kernel's mean without the rows of one group in x, by group of x (g)."""
        mean: Array = _without_row(self.sums) / _without_row(self.counts)
        return mean

    def without_each_of_y(self) -> Array:
        """Return the kernel's mean without the rows of one group in y, by group of y (h)."""
        mean: Array = _without_row(self.sums.T) / _without_row(self.counts.T)
        return mean


def _without_row(sums: Array) -> Array:
    """Return the total of a matrix without each of its rows."""
    rest: Array = sums.sum() - sums.sum(1)
    return rest


def _without_row_and_column(sums: Array) -> Array:
    """Return the total of a square matrix without each row and the column of the same number."""
    rest: Array = _without_row(sums) - sums.sum(0) + sums.diagonal()
    return rest
