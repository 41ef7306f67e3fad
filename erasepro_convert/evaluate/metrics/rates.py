"""What a sample of images says about prompts and seeds that were not tried.

Images of one prompt are alike, so n images say less than n independent ones, and intervals here
treat prompts, not images, as what is drawn.  All are at 95 % and deterministic.  Where prompts are
few they are rough, however many images there are: see ``few_prompts``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from erasepro_convert.evaluate.metrics.bootstrap import means
from erasepro_convert.evaluate.metrics.intervals import Interval, percentiles, student, wilson
from erasepro_convert.evaluate.metrics.kid_fid import Array
from erasepro_convert.runtime.wording import counted

REPLICATES = 2000
SEED = 0

FEW_PROMPTS = 5
FEW_IMAGES = 50
INCEPTION_FEATURES = 2048


@dataclass(frozen=True)
class Rate:
    """A share of images, and what it is worth.

    ``icc`` is the correlation of images of one prompt, None where it cannot be estimated: of one
    prompt, one image a prompt, or outcomes that are all the same.  ``n_eff`` is then n.
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
    """A mean over images, and what it is worth."""

    mean: float
    n: int
    prompts: int
    interval: Interval


@dataclass(frozen=True)
class Flips:
    """How many images a change made lose, and gain, a property, and how likely chance does so."""

    lost: int
    gained: int
    n: int
    p: float


def rate(
    hits_by_prompt: Mapping[str, tuple[int, int]], worst: Literal["high", "low"] = "high"
) -> Rate:
    """The share of hits, from (hits, images) of each prompt.

    n_eff = n / (1 + (m − 1)·ICC) with m = Σnᵢ²/n, the design effect of Kish, *Survey Sampling*
    (1965).  ICC is the ANOVA estimate, cut off at 0 (Ridout, Demétrio and Firth,
    *Estimating Intraclass Correlation for Binary Data*, Biometrics 55, 1999):

        ICC = (MSB − MSW) / (MSB + (n₀ − 1)·MSW),  n₀ = (n − m)/(k − 1),
        MSB = Σ nᵢ(pᵢ − p)²/(k − 1),  MSW = Σ nᵢpᵢ(1 − pᵢ)/(n − k)

    of k prompts with nᵢ images and rates pᵢ.  The interval is Wilson's (1927) for p, at n_eff times
    (t of n − 1 / t of k − 1 degrees of freedom)², for ICC is itself an estimate from k prompts:
    Korn and Graubard, *Confidence Intervals for Proportions with Small Expected Number of Positive
    Counts Estimated from Survey Data*, Survey Methodology 24 (1998).  Of
    10 prompts × 20 seeds at rate 0.1 and correlation 0.1 it holds in 95 % of samples; at n_eff
    itself it would in 91 %, at n in 77 %.  Of a single prompt, it is about that prompt's seeds.

    ``worst`` says which end is the bad one; of prompts that are equally bad the first is named.

    Raises ValueError for no prompts, a prompt without images, and hits outside of its images.
    """
    if not hits_by_prompt:
        raise ValueError("no prompts")
    for prompt, (some, count) in hits_by_prompt.items():
        if not 0 <= some <= count or not count:
            raise ValueError(f"{some} hits in {count} images of {prompt!r}")
    hits, counts = np.array([*hits_by_prompt.values()], dtype=np.float64).T
    k, n, p = len(counts), int(counts.sum()), float(hits.sum() / counts.sum())
    icc = _icc(hits, counts)
    n_eff = n / (1 + (float(counts @ counts) / n - 1) * (icc or 0.0))
    few = (student(n - 1) / student(k - 1)) ** 2 if k > 1 else 1.0
    pick = max if worst == "high" else min
    name = pick(hits_by_prompt, key=lambda prompt: _share(*hits_by_prompt[prompt]))
    return Rate(
        rate=p,
        hits=int(hits.sum()),
        n=n,
        prompts=k,
        icc=icc,
        n_eff=n_eff,
        interval=wilson(p, n_eff * few),
        worst=name,
        worst_rate=_share(*hits_by_prompt[name]),
    )


def mean_score(scores_by_prompt: Mapping[str, ArrayLike], seed: int = SEED) -> Mean:
    """The mean of all images' scores, given those of each prompt.

    The interval has the percentiles of 2000 means over prompts drawn anew, and seeds of each.  At
    intra-prompt correlations from 0.01 to 0.8 it held the true mean in 90 % to 97 % of samples of
    10 prompts with 20 seeds, in 87 % to 97 % of 5, in 71 % to 96 % of 3.

    Raises ValueError for a prompt without images, scores that are not finite, and fewer than two
    images.
    """
    scores = [_scores(prompt, values) for prompt, values in scores_by_prompt.items()]
    if sum(map(len, scores)) < 2:
        raise ValueError("an interval needs two images")
    pool = np.concatenate(scores)
    found = percentiles(means(scores, REPLICATES, seed))
    return Mean(float(pool.mean()), len(pool), len(scores), found)


def paired_difference(
    before_by_prompt: Mapping[str, ArrayLike],
    after_by_prompt: Mapping[str, ArrayLike],
    seed: int = SEED,
) -> Mean:
    """The mean of after − before, whose scores of a prompt are of the same seeds in the same order.

    Prompts, and pairs within them, are drawn as in ``mean_score``.  A difference is real where its
    interval is without 0.

    Raises ValueError as ``mean_score`` does, and where prompts or their numbers of images differ.
    """
    if before_by_prompt.keys() != after_by_prompt.keys():
        odd = sorted(before_by_prompt.keys() ^ after_by_prompt.keys())
        raise ValueError(f"prompts of one side only: {odd}")
    differences = {}
    for prompt, values in before_by_prompt.items():
        before, after = _scores(prompt, values), _scores(prompt, after_by_prompt[prompt])
        if len(before) != len(after):
            raise ValueError(f"{len(before)} and {len(after)} images cannot be pairs: {prompt!r}")
        differences[prompt] = after - before
    return mean_score(differences, seed)


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> Flips:
    """Whether images flip one way more than the other: McNemar's test, exact and two-sided.

    p is that of a fair coin for each image that flips.  It takes images for independent, which
    those of one prompt are not: ``paired_difference`` of 0s and 1s is the safer judge.

    Raises ValueError where the two are not as many.
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
    """Each p adjusted for there being several, by Holm's step-down method (1979), in their order.

    Raises ValueError for what is no probability.
    """
    for p in p_values:
        if not 0 <= p <= 1:
            raise ValueError(f"{p} is no probability")
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = least
    return tuple(adjusted)


def few_prompts(n: int) -> list[str]:
    """What is wrong with figures of so few prompts, in sentences."""
    if n == 1:
        return ["One prompt: intervals are about its other seeds, not about other prompts."]
    if n < FEW_PROMPTS:
        return [
            f"{n} prompts: intervals of means are too narrow (at 3 prompts that differ much they "
            f"hold 7 times in 10, not 95 in 100).  Use {FEW_PROMPTS} or more, better 10."
        ]
    return []


def few_for_kid(images: int) -> list[str]:
    """What is wrong with KID between sets of so few images."""
    if images >= FEW_IMAGES:
        return []
    return [
        f"{counted(images, 'image')}: KID is mostly noise, whose standard deviation is about "
        f"0.03 at 20 images and 0.003 at 200.  Use {FEW_IMAGES} or more."
    ]


def few_for_fid(images: int) -> list[str]:
    """What is wrong with FID between sets of so few images."""
    if images >= INCEPTION_FEATURES:
        return []
    return [
        f"{counted(images, 'image')}: FID is too high, the more the fewer they are and the more "
        f"features (of Inception {INCEPTION_FEATURES}).  Compare it only between as many images."
    ]


def _icc(hits: Array, counts: Array) -> float | None:
    """See ``rate``."""
    k, n = len(counts), counts.sum()
    if k in (1, n):
        return None
    rates, p = hits / counts, hits.sum() / n
    between = float(counts @ (rates - p) ** 2) / (k - 1)
    within = float(counts @ (rates * (1 - rates))) / float(n - k)
    typical = float(n - counts @ counts / n) / (k - 1)
    total = between + (typical - 1) * within
    return max(0.0, (between - within) / total) if total else None


def _share(hits: int, count: int) -> float:
    return hits / count


def _scores(prompt: str, values: ArrayLike) -> Array:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or not len(scores):
        raise ValueError(f"no images: {prompt!r}")
    if not np.isfinite(scores).all():
        raise ValueError(f"scores that are not finite: {prompt!r}")
    return scores
