"""Figures of a judge that gives each picture a number."""

from collections.abc import Sequence

import numpy as np

from erasepro_convert.evaluate.image_store import Pictures
from erasepro_convert.evaluate.metrics.rates import mean_score
from erasepro_convert.evaluate.results import Better, Estimate, Metric, Scores


def average(
    judge: str,
    concept: str | None,
    column: str,
    better: Better,
    pictures: Pictures,
    original: Sequence[float],
    erased: Sequence[float],
) -> Metric:
    """The means of both models, whose prompts and seeds are the same."""
    before, after = pictures.by_prompt(original), pictures.by_prompt(erased)
    means = {prompt: float(np.mean(scores)) for prompt, scores in after.items()}
    worst = (max if better == "lower" else min)(means, key=means.__getitem__)
    return Metric(
        judge=judge,
        concept=concept,
        column=column,
        better=better,
        original=mean(before),
        erased=mean(after),
        difference=change(before, after),
        images=len(erased),
        prompts=len(after),
        worst=worst,
        worst_value=means[worst],
        scores={"original": before, "erased": after},
    )


def mean(scores: Scores) -> Estimate:
    """The mean over pictures; of a single one there is no interval."""
    values = [value for of_prompt in scores.values() for value in of_prompt]
    if len(values) < 2:
        return Estimate(float(values[0]))
    found = mean_score(scores)
    return Estimate(found.mean, found.interval)


def change(before: Scores, after: Scores) -> Estimate:
    """The mean of after − before, whose pictures are pairs."""
    pairs = {prompt: zip(scores, after[prompt], strict=True) for prompt, scores in before.items()}
    return mean({prompt: [float(new) - old for old, new in of] for prompt, of in pairs.items()})
