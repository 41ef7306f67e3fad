"""Intervals of distances between two sets of images, by leaving out each prompt (jackknife)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from erasepro_convert.evaluate.metrics.intervals import Interval, student_t
from erasepro_convert.evaluate.metrics.kid_fid import Array, features, fid, kid, kid_paired
from erasepro_convert.evaluate.metrics.kid_jackknife import Groups, KernelSums

GROUPS = 50
"""The most groups of prompts: where there are more prompts, several are left out at a time."""

SEED = 0
"""The seed that decides which prompts are left out together."""

Statistic = Literal["kid", "kid_paired", "fid"]


@dataclass(frozen=True)
class Distance:
    """A distance, its standard deviation over samples of prompts, and its interval.

    ``images`` and ``prompts`` are those of each side.
    """

    value: float
    sd: float
    interval: Interval
    images: tuple[int, int]
    prompts: tuple[int, int]


def distance_interval(
    features_a: ArrayLike,
    features_b: ArrayLike,
    prompts: Sequence[str],
    statistic: Statistic,
    prompts_b: Sequence[str] | None = None,
) -> Distance:
    """Return KID, KIDp or FID of a (n × d) and b (m × d), whose prompts are given row by row.

    Where ``prompts_b`` is not given, rows i of a and b have the same prompt.

    The interval comes from the jackknife.  With θᵢ the distance without prompt i of k (on both
    sides, where they share it), sd² = (k − 1)/k · Σ(θᵢ − mean θ)², summed over the sides that have
    their own prompts.  The interval is value ± t·sd with k − 1 degrees of freedom, where k is that
    of the side with fewer prompts.  Efron and Stein, *The Jackknife Estimate of Variance* (1981).
    A bootstrap would be wrong: it draws some prompts twice, an image drawn twice is no second
    image, and so FID's standard deviation comes out up to six times too large.  In simulations of
    5 to 20 prompts the interval held in 88 % to 100 % of samples: most often near 0, where it is
    too wide, least often where one side had changed much.  It is valid for sets of this size only.

    KID costs one kernel of all pairs more than its value (0.2 s in all for 200 and 200 images).
    FID costs as much as its value for each prompt, up to 50 (2 s for 10 prompts with 20 images).

    Raises ValueError as the statistic does, where there are not as many labels as rows, for fewer
    than two prompts, for a prompt without which fewer than two images are left, and for KIDp with
    ``prompts_b``.
    """
    x, y = features(features_a, features_b)
    shares_prompts, is_paired = prompts_b is None, statistic == "kid_paired"
    if is_paired and not shares_prompts:
        raise ValueError("pairs have one prompt")
    prompts_x = _number_prompts(prompts, len(x))
    prompts_y = _number_prompts(prompts if prompts_b is None else prompts_b, len(y))
    groups_x, groups_y = _group_prompts(prompts_x), _group_prompts(prompts_y)
    if statistic == "fid":
        value = fid(x, y)
        sides = _fid_without_each(x, y, groups_x, groups_y, shares_prompts=shares_prompts)
    else:
        value = kid_paired(x, y) if is_paired else kid(x, y)
        sides = _kid_without_each(
            x, y, groups_x, groups_y, shares_prompts=shares_prompts, is_paired=is_paired
        )
    sd = float(np.sqrt(sum((len(side) - 1) * side.var() for side in sides)))
    half_width = student_t(min(map(len, sides)) - 1) * sd
    return Distance(
        value=value,
        sd=sd,
        interval=Interval(value - half_width, value + half_width),
        images=(len(x), len(y)),
        prompts=(int(prompts_x.max()) + 1, int(prompts_y.max()) + 1),
    )


def _number_prompts(names: Sequence[str], rows: int) -> Groups:
    """Return the number of each row's prompt."""
    if len(names) != rows:
        raise ValueError(f"prompts for {len(names)} images of {rows}")
    distinct, numbers = np.unique(np.asarray(names), return_inverse=True)
    if len(distinct) < 2:
        raise ValueError("one prompt says nothing of others")
    if rows - np.bincount(numbers).max() < 2:
        raise ValueError("without one of the prompts no two images are left")
    return numbers


def _group_prompts(prompt_numbers: Groups) -> Groups:
    """Return the number of the group that each row is left out with."""
    count = int(prompt_numbers.max()) + 1
    if count <= GROUPS:
        return prompt_numbers
    groups: Groups = (np.random.default_rng(SEED).permutation(count) % GROUPS)[prompt_numbers]
    return groups


def _kid_without_each(
    x: Array,
    y: Array,
    groups_x: Groups,
    groups_y: Groups,
    *,
    shares_prompts: bool,
    is_paired: bool,
) -> list[Array]:
    """Return θᵢ for each side that has its own prompts, up to a term that does not depend on i."""
    within_x = KernelSums.compute(x, x, groups_x, groups_x, skip_same_row=True)
    within_y = KernelSums.compute(y, y, groups_y, groups_y, skip_same_row=True)
    between = KernelSums.compute(x, y, groups_x, groups_y, skip_same_row=is_paired)
    if shares_prompts:
        return [within_x.without_each() + within_y.without_each() - 2 * between.without_each()]
    return [
        within_x.without_each() - 2 * between.without_each_of_x(),
        within_y.without_each() - 2 * between.without_each_of_y(),
    ]


def _fid_without_each(
    x: Array, y: Array, groups_x: Groups, groups_y: Groups, *, shares_prompts: bool
) -> list[Array]:
    """Return θᵢ for each side that has its own prompts."""
    if shares_prompts:
        kept = [groups_x != group for group in range(int(groups_x.max()) + 1)]
        return [np.array([fid(x[rows], y[rows]) for rows in kept])]
    return [
        np.array([fid(x[groups_x != group], y) for group in range(int(groups_x.max()) + 1)]),
        np.array([fid(x, y[groups_y != group]) for group in range(int(groups_y.max()) + 1)]),
    ]
