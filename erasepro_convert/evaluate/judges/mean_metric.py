"""The metric of a judge that gives each picture a score: the mean of the scores."""

from collections.abc import Sequence

import numpy as np

from erasepro_convert.evaluate.image_store import Pictures
from erasepro_convert.evaluate.metrics.rates import mean_score
from erasepro_convert.evaluate.results import Better, Estimate, Metric, Scores


def mean_metric(
    judge: str,
    concept: str | None,
    column: str,
    better: Better,
    pictures: Pictures,
    original: Sequence[float],
    erased: Sequence[float],
) -> Metric:
    """Return the mean scores of both models, over the same prompts and seeds."""
    before, after = pictures.by_prompt(original), pictures.by_prompt(erased)
    means = {prompt: float(np.mean(scores)) for prompt, scores in after.items()}
    worst = (max if better == "lower" else min)(means, key=means.__getitem__)
    return Metric(
        judge=judge,
        concept=concept,
        column=column,
        better=better,
        original=mean_estimate(before),
        erased=mean_estimate(after),
        difference=difference_estimate(before, after),
        images=len(erased),
        prompts=len(after),
        worst=worst,
        worst_value=means[worst],
        scores={"original": before, "erased": after},
    )


def mean_estimate(scores: Scores) -> Estimate:
    """Return the mean over pictures; a single picture has no interval."""
    values = [value for prompt_scores in scores.values() for value in prompt_scores]
    if len(values) < 2:
        return Estimate(float(values[0]))
    found = mean_score(scores)
    return Estimate(found.mean, found.interval)


def difference_estimate(before: Scores, after: Scores) -> Estimate:
    """Return the mean of after − before over pairs of pictures."""
    pairs = {prompt: zip(scores, after[prompt], strict=True) for prompt, scores in before.items()}
    return mean_estimate(
        {prompt: [float(new) - old for old, new in of] for prompt, of in pairs.items()}
    )
