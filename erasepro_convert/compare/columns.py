"""Figures of several methods side by side, and which differences are more than chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from erasepro_convert.evaluate.image_store import Model
from erasepro_convert.evaluate.judges.scores import change, mean
from erasepro_convert.evaluate.metrics.intervals import Interval
from erasepro_convert.evaluate.metrics.rates import holm, mcnemar, rate
from erasepro_convert.evaluate.results import Better, Estimate, Metric, Scores

CHANCE = 0.05


@dataclass(frozen=True)
class Against:
    """A method's difference to the reference, over the same prompts and seeds.

    ``p`` is McNemar's for shares, adjusted by Holm for there being several methods.
    """

    difference: Estimate
    p: float | None


@dataclass(frozen=True)
class Cell:
    """A figure of a method; ``beats`` are methods that are worse by more than chance.

    ``best`` is for one that beats every other.  That these are several needs no adjustment then: it
    must beat each, an intersection-union test.
    """

    value: Estimate
    against: Against | None
    beats: tuple[str, ...]
    best: bool


@dataclass(frozen=True)
class Column:
    """One figure of all methods, over the pictures of all concepts; ``cells`` by method.

    A distance is the average over concepts.  A method for which a judge has no such figure, or not
    for every concept, is not there.
    """

    judge: str
    name: str
    better: Better
    original: Estimate | None
    cells: Mapping[str, Cell]
    images: int
    prompts: int


def columns(figures: Mapping[str, Sequence[Metric]], reference: str) -> list[Column]:
    """The columns of a table, in the judges' order, given each method's figures."""
    keys = dict.fromkeys((f.judge, f.column) for f in chain(*figures.values()))
    return [_column(key, figures, reference) for key in keys]


def _column(
    key: tuple[str, str], figures: Mapping[str, Sequence[Metric]], reference: str
) -> Column:
    mine = {method: [f for f in of if (f.judge, f.column) == key] for method, of in figures.items()}
    concepts = max(map(len, mine.values()))
    mine = {method: of for method, of in mine.items() if len(of) == concepts}
    first = next(iter(mine.values()))
    scores = {method: _together(of, "erased") for method, of in mine.items()}
    found = {method: _value(of, scores[method], "erased") for method, of in mine.items()}
    values = {method: value for method, value in found.items() if value}
    against = _against(scores, reference)
    better = first[0].better

    def cell(method: str) -> Cell:
        others = [other for other in values if other != method]
        beats = tuple(
            other
            for other in others
            if _beats(values[method], values[other], scores[method], scores[other], better)
        )
        return Cell(values[method], against.get(method), beats, 0 < len(others) == len(beats))

    return Column(
        judge=key[0],
        name=key[1],
        better=better,
        original=_value(first, _together(first, "original"), "original"),
        cells={method: cell(method) for method in values},
        images=sum(f.images for f in first),
        prompts=sum(f.prompts for f in first),
    )


def _together(figures: Sequence[Metric], model: Model) -> Scores | None:
    """What figures of several concepts are made of.

    A prompt that several of them have is one prompt with more pictures, or intervals would take it
    for several.
    """
    found: dict[str, list[float]] = {}
    for figure in figures:
        if figure.scores is None:
            return None
        for prompt, scores in figure.scores[model].items():
            found.setdefault(prompt, []).extend(scores)
    return found


def _value(figures: Sequence[Metric], scores: Scores | None, model: Model) -> Estimate | None:
    """The figure of one concept, or that of all their pictures."""
    own = [figure.original if model == "original" else figure.erased for figure in figures]
    if len(own) == 1:
        return own[0]
    given = [value for value in own if value]
    if len(given) < len(own):
        return None
    if scores is None:
        return _average(given)
    if _are_shares(scores):
        found = rate({p: (int(sum(hits)), len(hits)) for p, hits in scores.items()})
        return Estimate(found.rate, found.interval)
    return mean(scores)


def _average(values: Sequence[Estimate]) -> Estimate:
    """Of distances.

    The ends are averaged too: right where all move together, too wide where they do not.
    """
    n, inside = len(values), [value.interval for value in values if value.interval]
    average = sum(value.value for value in values) / n
    if len(inside) < n:
        return Estimate(average)
    low, high = (sum(getattr(one, end) for one in inside) / n for end in ("low", "high"))
    return Estimate(average, Interval(low, high))


def _are_shares(scores: Scores) -> bool:
    return all(score in (0, 1) for score in chain(*scores.values()))


def _against(scores: Mapping[str, Scores | None], reference: str) -> dict[str, Against]:
    """Of each method but the reference, where pictures can be compared one by one."""
    before = scores.get(reference)
    others = {m: after for m, after in scores.items() if after is not None and m != reference}
    if before is None:
        return {}
    p_values: dict[str, float] = {}
    if all(_are_shares(some) for some in (before, *others.values())):
        flips = [_flips(before, after) for after in others.values()]
        p_values = dict(zip(others, holm(flips), strict=True))
    return {m: Against(change(before, after), p_values.get(m)) for m, after in others.items()}


def _flips(before: Scores, after: Scores) -> float:
    """McNemar's p of two methods' hits in the same pictures."""
    ordered = chain.from_iterable(after[prompt] for prompt in before)
    return mcnemar([bool(hit) for hit in chain(*before.values())], [*map(bool, ordered)]).p


def _beats(
    one: Estimate, other: Estimate, mine: Scores | None, theirs: Scores | None,
    better: Better,
) -> bool:  # fmt: skip
    """By the difference over the same pictures; of distances, by intervals that do not meet.

    Shares have to pass McNemar's test too: where few pictures all flip, nothing is left for a
    bootstrap to vary.
    """
    if mine is not None and theirs is not None:
        within = change(theirs, mine).interval
        if within is None:
            return False
        if _are_shares(mine) and _are_shares(theirs) and _flips(theirs, mine) >= CHANCE:
            return False
        return within.low > 0 if better == "higher" else within.high < 0
    if not (one.interval and other.interval):
        return False
    if better == "higher":
        return one.interval.low > other.interval.high
    return one.interval.high < other.interval.low
