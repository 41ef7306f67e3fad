"""Metrics of several methods side by side, and which differences are more than chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from erasepro_convert.evaluate.image_store import ModelName
from erasepro_convert.evaluate.judges.mean_metric import difference_estimate, mean_estimate
from erasepro_convert.evaluate.metrics.intervals import Interval
from erasepro_convert.evaluate.metrics.rates import holm, mcnemar, rate
from erasepro_convert.evaluate.results import Better, Estimate, Metric, Scores

SIGNIFICANCE = 0.05
"""The p below which McNemar's test finds a difference."""


@dataclass(frozen=True)
class Difference:
    """A method's difference from the reference, over the same prompts and seeds.

    ``p`` is McNemar's for shares, adjusted by Holm's method for the number of methods.
    """

    difference: Estimate
    p: float | None


@dataclass(frozen=True)
class Cell:
    """A method's estimate of one metric.

    ``against`` is the difference from the reference.  ``beats`` are the methods that are worse by
    more than chance.  ``best`` marks a method that beats every other; it needs no adjustment for
    several tests, since it must pass each of them (an intersection-union test).
    """

    value: Estimate
    against: Difference | None
    beats: tuple[str, ...]
    best: bool


@dataclass(frozen=True)
class Column:
    """One metric of all methods, over the pictures of all concepts; ``cells`` are by method.

    A distance is averaged over concepts.  A method is left out where the judge has no such metric
    of it for some concept.
    """

    judge: str
    name: str
    better: Better
    original: Estimate | None
    cells: Mapping[str, Cell]
    images: int
    prompts: int


def columns(metrics: Mapping[str, Sequence[Metric]], reference: str) -> list[Column]:
    """Return the columns of a table in the judges' order, given the metrics of each method."""
    keys = dict.fromkeys((m.judge, m.column) for m in chain(*metrics.values()))
    return [_column(key, metrics, reference) for key in keys]


def _column(
    key: tuple[str, str], metrics: Mapping[str, Sequence[Metric]], reference: str
) -> Column:
    """Return the column of a judge's metric; ``key`` has the names of both."""
    by_method = {
        method: [m for m in method_metrics if (m.judge, m.column) == key]
        for method, method_metrics in metrics.items()
    }
    concepts = max(map(len, by_method.values()))
    by_method = {method: ours for method, ours in by_method.items() if len(ours) == concepts}
    first = next(iter(by_method.values()))
    scores = {method: _pool_scores(ours, "erased") for method, ours in by_method.items()}
    pooled = {
        method: _pool_estimates(ours, scores[method], "erased")
        for method, ours in by_method.items()
    }
    estimates = {method: estimate for method, estimate in pooled.items() if estimate}
    differences = _differences(scores, reference)
    better = first[0].better

    def cell(method: str) -> Cell:
        others = [other for other in estimates if other != method]
        beats = tuple(
            other
            for other in others
            if _beats(estimates[method], estimates[other], scores[method], scores[other], better)
        )
        is_best = 0 < len(others) == len(beats)
        return Cell(estimates[method], differences.get(method), beats, is_best)

    return Column(
        judge=key[0],
        name=key[1],
        better=better,
        original=_pool_estimates(first, _pool_scores(first, "original"), "original"),
        cells={method: cell(method) for method in estimates},
        images=sum(metric.images for metric in first),
        prompts=sum(metric.prompts for metric in first),
    )


def _pool_scores(metrics: Sequence[Metric], model: ModelName) -> Scores | None:
    """Pool the scores of several concepts by prompt; None for distances, which have no scores.

    A prompt that several concepts share counts as one prompt with more pictures.  Intervals would
    be too narrow if it counted as several prompts.
    """
    pooled: dict[str, list[float]] = {}
    for metric in metrics:
        if metric.scores is None:
            return None
        for prompt, scores in metric.scores[model].items():
            pooled.setdefault(prompt, []).extend(scores)
    return pooled


def _pool_estimates(
    metrics: Sequence[Metric], scores: Scores | None, model: ModelName
) -> Estimate | None:
    """Return the estimate of a single concept, or one over the pictures of all concepts."""
    by_concept = [metric.original if model == "original" else metric.erased for metric in metrics]
    if len(by_concept) == 1:
        return by_concept[0]
    estimates = [estimate for estimate in by_concept if estimate]
    if len(estimates) < len(by_concept):
        return None
    if scores is None:
        return _average(estimates)
    if _are_shares(scores):
        share = rate({p: (int(sum(hits)), len(hits)) for p, hits in scores.items()})
        return Estimate(share.rate, share.interval)
    return mean_estimate(scores)


def _average(values: Sequence[Estimate]) -> Estimate:
    """Average distances, and the ends of their intervals.

    The averaged interval is right where all distances vary together, else it is too wide.
    """
    n, intervals = len(values), [value.interval for value in values if value.interval]
    average = sum(value.value for value in values) / n
    if len(intervals) < n:
        return Estimate(average)
    low, high = (sum(getattr(i, end) for i in intervals) / n for end in ("low", "high"))
    return Estimate(average, Interval(low, high))


def _are_shares(scores: Scores) -> bool:
    """Whether scores say only whether something was seen in a picture."""
    return all(score in (0, 1) for score in chain(*scores.values()))


def _differences(scores: Mapping[str, Scores | None], reference: str) -> dict[str, Difference]:
    """Compare each other method with the reference, where single pictures can be compared."""
    before = scores.get(reference)
    others = {m: after for m, after in scores.items() if after is not None and m != reference}
    if before is None:
        return {}
    p_values: dict[str, float] = {}
    if all(map(_are_shares, (before, *others.values()))):
        unadjusted = [_mcnemar_p(before, after) for after in others.values()]
        p_values = dict(zip(others, holm(unadjusted), strict=True))
    return {
        m: Difference(difference_estimate(before, after), p_values.get(m))
        for m, after in others.items()
    }


def _mcnemar_p(before: Scores, after: Scores) -> float:
    """Return McNemar's p of two methods' hits in the same pictures."""
    ordered = chain.from_iterable(after[prompt] for prompt in before)
    return mcnemar([bool(hit) for hit in chain(*before.values())], [*map(bool, ordered)]).p


def _beats(
    one: Estimate, other: Estimate, scores: Scores | None, other_scores: Scores | None,
    better: Better,
) -> bool:  # fmt: skip
    """Whether ``one`` is better than ``other`` by more than chance explains.

    The difference over the same pictures decides, or for distances whether intervals are disjoint.

    Shares have to pass McNemar's test too: where few pictures all flip, a bootstrap has nothing
    to vary, and its interval has no width.
    """
    if scores is not None and other_scores is not None:
        interval = difference_estimate(other_scores, scores).interval
        if interval is None:
            return False
        are_shares = _are_shares(scores) and _are_shares(other_scores)
        if are_shares and _mcnemar_p(other_scores, scores) >= SIGNIFICANCE:
            return False
        return interval.low > 0 if better == "higher" else interval.high < 0
    if not (one.interval and other.interval):
        return False
    if better == "higher":
        return one.interval.low > other.interval.high
    return one.interval.high < other.interval.low
