"""The metric of a judge that detects something in pictures: the share of pictures that show it."""

from collections.abc import Sequence
from typing import Literal

from erasepro_convert.evaluate.image_store import Pictures
from erasepro_convert.evaluate.judges.mean_metric import difference_estimate
from erasepro_convert.evaluate.metrics.rates import rate
from erasepro_convert.evaluate.results import Better, Estimate, Metric

WORST: dict[Better, Literal["high", "low"]] = {"lower": "high", "higher": "low"}

Hits = Sequence[bool]
"""For each picture, whether something was detected in it."""


def share_metric(
    judge: str,
    concept: str | None,
    column: str,
    better: Better,
    pictures: Pictures,
    original: Hits,
    erased: Hits,
) -> Metric:
    """Return the shares of pictures with hits of both models, over the same prompts and seeds."""
    before, after = pictures.by_prompt(original), pictures.by_prompt(erased)
    old, new = (
        rate({p: (int(sum(hits)), len(hits)) for p, hits in side.items()}, WORST[better])
        for side in (before, after)
    )
    return Metric(
        judge=judge,
        concept=concept,
        column=column,
        better=better,
        original=Estimate(old.rate, old.interval),
        erased=Estimate(new.rate, new.interval),
        difference=difference_estimate(before, after),
        images=new.n,
        prompts=new.prompts,
        worst=new.worst,
        worst_value=new.worst_rate,
        scores={"original": before, "erased": after},
    )
