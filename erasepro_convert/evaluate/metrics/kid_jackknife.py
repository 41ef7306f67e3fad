"""The kernel of KID, summed by groups of images: what KID would be without one of the groups."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from erasepro_convert.evaluate.metrics.kid_fid import Array, kernel

AT_ONCE = 1 << 22
"""About how many values of the kernel are held at a time."""

Groups = NDArray[np.intp]
"""The number of each row's group."""


@dataclass(frozen=True)
class Pairs:
    """The kernel summed over pairs of rows, and their number, by the groups of both (g × h)."""

    sums: Array
    counts: Array

    @classmethod
    def of(cls, x: Array, y: Array, of_x: Groups, of_y: Groups, *, others: bool) -> "Pairs":
        """Pairs of rows of x (n × d) and y (m × d).

        ``others`` leaves out those of a row with the row of the same number.
        """
        member_x, member_y = (np.eye(int(groups.max()) + 1)[groups] for groups in (of_x, of_y))
        sums, counts = np.zeros((2, member_x.shape[1], member_y.shape[1]))
        step = max(1, AT_ONCE // len(y))
        for first in range(0, len(x), step):
            rows = slice(first, first + step)
            k = kernel(x[rows], y)
            if others:
                same = np.arange(len(k))
                k[same, same + first] = 0
            sums += member_x[rows].T @ k @ member_y
        counts += np.outer(member_x.sum(0), member_y.sum(0))
        if others:
            counts -= member_x.T @ member_y
        return cls(sums, counts)

    def without_each(self) -> Array:
        """The mean of the kernel without rows of x and of y in one group, for each group (g)."""
        return _without(self.sums) / _without(self.counts)

    def without_each_of_x(self) -> Array:
        """The mean of the kernel without rows of x in one group, for each of x's groups (g)."""
        mean: Array = _left(self.sums) / _left(self.counts)
        return mean

    def without_each_of_y(self) -> Array:
        """The mean of the kernel without rows of y in one group, for each of y's groups (h)."""
        mean: Array = _left(self.sums.T) / _left(self.counts.T)
        return mean


def _left(sums: Array) -> Array:
    rest: Array = sums.sum() - sums.sum(1)
    return rest


def _without(sums: Array) -> Array:
    rest: Array = _left(sums) - sums.sum(0) + sums.diagonal()
    return rest
