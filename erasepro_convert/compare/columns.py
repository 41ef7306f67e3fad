"""Figures of several methods side by side, and which differences are more than chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from erasepro_convert.evaluate.figures import Better, Figure, Scores, Value
from erasepro_convert.evaluate.pictures import Model
from erasepro_convert.evaluate.statistics import (
    holm,
    mcnemar,
    mean_score,
    paired_difference,
    rate,
)


@dataclass(frozen=True)
class Against:
    """A method's difference to the reference, over the same prompts and seeds.

    ``p`` is McNemar's for shares, adjusted by Holm for there being several methods.
    """

    difference: Value
    p: float | None


@dataclass(frozen=True)
class Cell:
    """A figure of a method; ``best`` where it beats every other method by more than chance."""

    value: Value
    against: Against | None
    best: bool


@dataclass(frozen=True)
class Column:
    """One figure of all methods, averaged over concepts; ``cells`` by method.

    A method for which a judge has no such figure is not there.
    """

    judge: str
    name: str
    better: Better
    original: Value | None
    cells: Mapping[str, Cell]
    images: int
    prompts: int


def columns(figures: Mapping[str, Sequence[Figure]], reference: str) -> list[Column]:
    """The columns of a table, in the judges' order, given each method's figures."""
    keys = dict.fromkeys((f.judge, f.column) for f in chain(*figures.values()))
    return [_column(key, figures, reference) for key in keys]


def _column(
    key: tuple[str, str], figures: Mapping[str, Sequence[Figure]], reference: str
) -> Column:
    mine = {method: [f for f in of if (f.judge, f.column) == key] for method, of in figures.items()}
    mine = {method: of for method, of in mine.items() if of}
    first = next(iter(mine.values()))
    scores = {method: _together(of, "erased") for method, of in mine.items()}
    found = {method: _value(of, scores[method], "erased") for method, of in mine.items()}
    values = {method: value for method, value in found.items() if value}
    against = _against(scores, reference)
    better = first[0].better
    return Column(
        judge=key[0],
        name=key[1],
        better=better,
        original=_value(first, _together(first, "original"), "original"),
        cells={
            method: Cell(value, against.get(method), _is_best(method, values, scores, better))
            for method, value in values.items()
        },
        images=sum(f.images for f in first),
        prompts=sum(f.prompts for f in first),
    )


def _together(figures: Sequence[Figure], model: Model) -> Scores | None:
    """What figures of several concepts are made of."""
    found: dict[str, Sequence[float]] = {}
    for figure in figures:
        if figure.scores is None:
            return None
        for prompt, scores in figure.scores[model].items():
            found[f"{figure.concept}\n{prompt}"] = scores
    return found


def _value(figures: Sequence[Figure], scores: Scores | None, model: Model) -> Value | None:
    """The figure of one concept, or the average over all."""
    own = [figure.original if model == "original" else figure.erased for figure in figures]
    if len(own) == 1:
        return own[0]
    given = [value.value for value in own if value]
    if len(given) < len(own):
        return None
    mean = sum(given) / len(given)
    if scores is None:
        return Value(mean)
    if _are_shares(scores):
        found = rate({p: (int(sum(hits)), len(hits)) for p, hits in scores.items()})
        return Value(mean, found.interval)
    return Value(mean, mean_score(scores).interval)


def _are_shares(scores: Scores) -> bool:
    return all(score in (0, 1) for score in chain(*scores.values()))


def _against(scores: Mapping[str, Scores | None], reference: str) -> dict[str, Against]:
    """Of each method but the reference, where pictures can be compared one by one."""
    before = scores.get(reference)
    others = {m: after for m, after in scores.items() if after is not None and m != reference}
    if before is None:
        return {}
    differences = {
        method: Value(found.mean, found.interval)
        for method, after in others.items()
        for found in [paired_difference(before, after)]
    }
    p_values: dict[str, float] = {}
    if all(_are_shares(some) for some in (before, *others.values())):
        flips = [
            mcnemar(_flat(before), _flat(_in_order(after, before))) for after in others.values()
        ]
        p_values = dict(zip(others, holm([flip.p for flip in flips]), strict=True))
    return {m: Against(value, p_values.get(m)) for m, value in differences.items()}


def _in_order(scores: Scores, like: Scores) -> Scores:
    return {prompt: scores[prompt] for prompt in like}


def _flat(scores: Scores) -> list[bool]:
    return [bool(score) for score in chain(*scores.values())]


def _is_best(
    method: str,
    values: Mapping[str, Value],
    scores: Mapping[str, Scores | None],
    better: Better,
) -> bool:
    """Whether every other method is worse beyond its interval."""
    others = [other for other in values if other != method]
    return bool(others) and all(
        _beats(values[method], values[other], scores[method], scores[other], better)
        for other in others
    )


def _beats(
    one: Value, other: Value, mine: Scores | None, theirs: Scores | None,
    better: Better,
) -> bool:  # fmt: skip
    """By the difference over the same pictures; of distances, by intervals that do not meet."""
    if mine is not None and theirs is not None:
        within = paired_difference(theirs, mine).interval
        return within.low > 0 if better == "higher" else within.high < 0
    if not (one.interval and other.interval):
        return False
    if better == "higher":
        return one.interval.low > other.interval.high
    return one.interval.high < other.interval.low
