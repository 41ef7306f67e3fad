"""Rates and means over images, with intervals that hold for prompts and seeds not tried.

Images of one prompt resemble each other, so n images say less than n independent ones, and the
intervals here treat prompts, not images, as the sample.  All are at 95 % and deterministic.  Where
prompts are few they are rough, however many images there are: see ``prompt_count_warnings``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from erasepro_convert.evaluate.metrics.bootstrap import bootstrap_means
from erasepro_convert.evaluate.metrics.intervals import (
    Interval,
    percentile_interval,
    student_t,
    wilson_interval,
)
from erasepro_convert.evaluate.metrics.kid_fid import Array
from erasepro_convert.runtime.wording import counted

REPLICATES = 2000
"""How many bootstrap means an interval rests on."""
SEED = 0
"""The seed of the bootstrap."""

FEW_PROMPTS = 5
"""Intervals of means over fewer prompts are too narrow."""
FEW_IMAGES = 50
"""KID of fewer images is mostly noise."""
INCEPTION_FEATURES = 2048
"""FID of fewer images than features is too high."""


@dataclass(frozen=True)
class Rate:
    """A share of images with its interval and its effective sample size.

    ``icc`` is the correlation of images of one prompt.  It is None where it cannot be estimated:
    for a single prompt, for one image per prompt, and where all outcomes are equal; ``n_eff`` is n
    then.
    """

    rate: float
    hits: int
    n: int
    prompts: int
    icc: float | None
    n_eff: float
    interval: Interval
    worst: str
    worst_rate: float


@dataclass(frozen=True)
class Mean:
    """A mean over images with its interval."""

    mean: float
    n: int
    prompts: int
    interval: Interval


@dataclass(frozen=True)
class Flips:
    """How many images lost and how many gained a property; ``p`` is McNemar's."""

    lost: int
    gained: int
    n: int
    p: float


def rate(
    hits_by_prompt: Mapping[str, tuple[int, int]], worst: Literal["high", "low"] = "high"
) -> Rate:
    """Return the share of hits, given (hits, images) for each prompt.

    n_eff = n / (1 + (m − 1)·ICC) with m = Σnᵢ²/n, the design effect of Kish, *Survey Sampling*
    (1965).  ICC is the ANOVA estimate, cut off at 0 (Ridout, Demétrio and Firth,
    *Estimating Intraclass Correlation for Binary Data*, Biometrics 55, 1999):

        ICC = (MSB − MSW) / (MSB + (n₀ − 1)·MSW),  n₀ = (n − m)/(k − 1),
        MSB = Σ nᵢ(pᵢ − p)²/(k − 1),  MSW = Σ nᵢpᵢ(1 − pᵢ)/(n − k)

    of k prompts with nᵢ images and rates pᵢ.  The interval is Wilson's (1927) for p, at n_eff times
    (t of n − 1 / t of k − 1 degrees of freedom)², for ICC is itself an estimate from k prompts:
    Korn and Graubard, *Confidence Intervals for Proportions with Small Expected Number of Positive
    Counts Estimated from Survey Data*, Survey Methodology 24 (1998).  With 10 prompts × 20 seeds
    at rate 0.1 and correlation 0.1 it holds in 95 % of samples; at n_eff itself it would in 91 %,
    at n in 77 %.  For a single prompt the interval is about further seeds of that prompt.

    ``worst`` says whether high or low rates are bad; the first of several worst prompts is named.

    Raises ValueError where there are no prompts, for a prompt without images, and for a number of
    hits that is negative or above the number of images.
    """
    if not hits_by_prompt:
        raise ValueError("no prompts")
    for prompt, (hit_count, count) in hits_by_prompt.items():
        if not 0 <= hit_count <= count or not count:
            raise ValueError(f"{hit_count} hits in {count} images of {prompt!r}")
    hits, counts = np.array([*hits_by_prompt.values()], dtype=np.float64).T
    k, n, p = len(counts), int(counts.sum()), float(hits.sum() / counts.sum())
    icc = _icc(hits, counts)
    n_eff = n / (1 + (float(counts @ counts) / n - 1) * (icc or 0.0))
    correction = (student_t(n - 1) / student_t(k - 1)) ** 2 if k > 1 else 1.0
    find_worst = max if worst == "high" else min
    worst_prompt = find_worst(hits_by_prompt, key=lambda prompt: _share(*hits_by_prompt[prompt]))
    return Rate(
        rate=p,
        hits=int(hits.sum()),
        n=n,
        prompts=k,
        icc=icc,
        n_eff=n_eff,
        interval=wilson_interval(p, n_eff * correction),
        worst=worst_prompt,
        worst_rate=_share(*hits_by_prompt[worst_prompt]),
    )


def crossed_rate(hits_by_seed: Sequence[Mapping[str, tuple[int, int]]]) -> Rate:
    """Return the share of hits where training was repeated: (hits, images) by prompt for each seed.

    Images resemble each other that share a prompt, and those that share a training seed.  In the
    model of crossed random effects their variances add up, and with them what the design effects
    have above 1; each is that of ``rate``.  The interval is for as many degrees of freedom as the
    fewer of prompts and seeds give.  For a single seed it is that of ``rate``, and says nothing
    about other trainings.

    Raises ValueError as ``rate`` does, and where seeds have not the same prompts.
    """
    prompts = hits_by_seed[0].keys()
    if any(hits.keys() != prompts for hits in hits_by_seed):
        raise ValueError("seeds with different prompts")
    by_prompt = rate({p: _summed(hits[p] for hits in hits_by_seed) for p in prompts})
    if len(hits_by_seed) == 1:
        return by_prompt
    by_seed = rate({str(i): _summed(hits.values()) for i, hits in enumerate(hits_by_seed)})
    n = by_prompt.n
    n_eff = n / (n / by_prompt.n_eff + n / by_seed.n_eff - 1)
    fewest = min(by_prompt.prompts, by_seed.prompts)
    correction = (student_t(n - 1) / student_t(fewest - 1)) ** 2 if fewest > 1 else 1.0
    interval = wilson_interval(by_prompt.rate, n_eff * correction)
    return replace(by_prompt, n_eff=n_eff, interval=interval)


def mean_score(scores_by_prompt: Mapping[str, ArrayLike], seed: int = SEED) -> Mean:
    """Return the mean of all images' scores, given the scores of each prompt.

    The interval has the percentiles of 2000 bootstrap means over prompts and their seeds.  At
    intra-prompt correlations from 0.01 to 0.8 it held the true mean in 90 % to 97 % of samples of
    10 prompts with 20 seeds, in 87 % to 97 % of 5, in 71 % to 96 % of 3.

    Raises ValueError for a prompt without images, scores that are not finite, and fewer than two
    images.
    """
    scores = [_scores(prompt, values) for prompt, values in scores_by_prompt.items()]
    if sum(map(len, scores)) < 2:
        raise ValueError("an interval needs two images")
    pool = np.concatenate(scores)
    interval = percentile_interval(bootstrap_means(scores, REPLICATES, seed))
    return Mean(float(pool.mean()), len(pool), len(scores), interval)


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> Flips:
    """Test whether images flip one way more than the other: McNemar's test, exact and two-sided.

    p is that of a fair coin for each image that flips.  The test takes images for independent,
    which images of one prompt are not.  The binomial tail is summed in whole numbers, so that p is
    exact.

    Raises ValueError where there are not as many images after as before.
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} and {len(after)} images cannot be pairs")
    lost = sum(was and not now for was, now in zip(before, after, strict=True))
    gained = sum(now and not was for was, now in zip(before, after, strict=True))
    flips = lost + gained
    ways = tail = 1
    for i in range(min(lost, gained)):
        ways = ways * (flips - i) // (i + 1)
        tail += ways
    return Flips(lost, gained, len(before), min(1.0, 2 * tail / 2**flips))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return each p adjusted for multiple tests by Holm's step-down method (1979), in order.

    Raises ValueError for a number that is no probability.
    """
    for p in p_values:
        if not 0 <= p <= 1:
            raise ValueError(f"{p} is no probability")
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = least
    return tuple(adjusted)


def prompt_count_warnings(n: int) -> list[str]:
    """Return a warning where ``n`` prompts are too few for reliable intervals."""
    if n == 1:
        return ["One prompt: intervals are about its other seeds, not about other prompts."]
    if n < FEW_PROMPTS:
        return [
            f"{n} prompts: intervals of means are too narrow (at 3 prompts that differ much they "
            f"hold 7 times in 10, not 95 in 100).  Use {FEW_PROMPTS} or more, better 10."
        ]
    return []


def kid_warnings(images: int) -> list[str]:
    """Return a warning where sets of so many images are too small for KID."""
    if images >= FEW_IMAGES:
        return []
    return [
        f"{counted(images, 'image')}: KID is mostly noise, whose standard deviation is about "
        f"0.03 at 20 images and 0.003 at 200.  Use {FEW_IMAGES} or more."
    ]


def fid_warnings(images: int) -> list[str]:
    """Return a warning where sets of so many images are too small for FID."""
    if images >= INCEPTION_FEATURES:
        return []
    return [
        f"{counted(images, 'image')}: FID is too high, the more the fewer they are and the more "
        f"features (of Inception {INCEPTION_FEATURES}).  Compare it only between as many images."
    ]


def _icc(hits: Array, counts: Array) -> float | None:
    """Estimate the intra-prompt correlation as ``rate`` defines it; None where it is undefined."""
    k, n = len(counts), counts.sum()
    if k in (1, n):
        return None
    rates, p = hits / counts, hits.sum() / n
    between = float(counts @ (rates - p) ** 2) / (k - 1)
    within = float(counts @ (rates * (1 - rates))) / float(n - k)
    typical = float(n - counts @ counts / n) / (k - 1)
    total = between + (typical - 1) * within
    return max(0.0, (between - within) / total) if total else None


def _summed(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Add up hits and images."""
    hits, images = zip(*counts, strict=True)
    return sum(hits), sum(images)


def _share(hits: int, count: int) -> float:
    return hits / count


def _scores(prompt: str, values: ArrayLike) -> Array:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or not len(scores):
        raise ValueError(f"no images: {prompt!r}")
    if not np.isfinite(scores).all():
        raise ValueError(f"scores that are not finite: {prompt!r}")
    return scores
