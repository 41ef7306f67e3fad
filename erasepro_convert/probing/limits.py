"""Which of the recipe's limits a result exceeds, and what to try then."""

from collections.abc import Iterable, Iterator, Sequence

from erasepro_convert.manifest import Change, ProbeRecord, PromptMeasure
from erasepro_convert.manifest.measures import exceeds
from erasepro_convert.recipe import Concept, Recipe
from erasepro_convert.recipe.methods import METHODS
from erasepro_convert.runtime.printable import quoted

NAMED = 3
"""Concepts that a message names."""
INDISTINCT = 0.7
"""The distance of target and anchor, as a share of other prompts' spread, below which the model
hardly tells them apart: half of √2, which is that of two unrelated words."""


def exceeded(recipe: Recipe, measured: ProbeRecord, edits: Iterable[Change]) -> tuple[str, ...]:
    """Return sentences on the limits that are exceeded: which, by how much, where, what to try."""
    leak, drift = list(_leak(recipe, measured)), list(_drift(recipe, measured))
    update = list(_update(recipe, edits))
    advice = _advice(recipe, measured, leaks=bool(leak), drifts=bool(drift or update))
    return (*leak, *drift, *update, *advice)


def exceeded_measures(recipe: Recipe, measured: ProbeRecord) -> tuple[str, ...]:
    """Return sentences on the limits on leak and drift that are exceeded, without advice."""
    return (*_leak(recipe, measured), *_drift(recipe, measured))


def leaking_concepts(recipe: Recipe, measured: ProbeRecord) -> list[Concept]:
    """Return the concepts whose leak is above the limit with any text encoder or clip skip."""
    above = {m.concept for m in measured.leak if exceeds(m.mean, recipe.limits.leak)}
    return [concept for concept in recipe.concepts if concept.target in above]


def _leak(recipe: Recipe, measured: ProbeRecord) -> Iterator[str]:
    limit = recipe.limits.leak
    above = [m for m in measured.leak if exceeds(m.mean, limit)]
    if not above:
        return
    worst_of: dict[str | None, PromptMeasure] = {}
    for measure in sorted(above, key=lambda m: -m.mean):
        worst_of.setdefault(measure.concept, measure)
    named = [
        f"{quoted(concept or '')} {m.mean:.2f}" for concept, m in list(worst_of.items())[:NAMED]
    ]
    more = f" and {len(worst_of) - NAMED} more" if len(worst_of) > NAMED else ""
    yield (
        f"leak is above the limit of {limit:g}: {', '.join(named)}{more} of "
        f"{_count(recipe.concepts, 'concept')}{_where(above)}"
    )


def _drift(recipe: Recipe, measured: ProbeRecord) -> Iterator[str]:
    limit = recipe.limits.drift
    above = [m for m in measured.drift if exceeds(m.mean, limit)]
    if above:
        worst = max(above, key=lambda m: m.mean)
        yield f"drift is {worst.mean:.2f}, above the limit of {limit:g}{_where(above)}"


def _where(above: Sequence[PromptMeasure]) -> str:
    """Return with which text encoder, and at which prompt most."""
    encoders = sorted({m.feed.text_encoder for m in above})
    worst = max(above, key=lambda m: m.worst)
    return (
        f", with the {' and the '.join(encoders)} text encoder; most at "
        f"{quoted(worst.worst_prompt)} ({worst.worst:.2f})"
    )


def _update(recipe: Recipe, edits: Iterable[Change]) -> Iterator[str]:
    limit = recipe.limits.relative_update
    worst = max(edits, key=lambda edit: edit.relative_update, default=None)
    if limit is not None and worst and exceeds(worst.relative_update, limit):
        yield (
            f"the update of {worst.name} is {worst.relative_update:.2f} times its norm, above the "
            f"limit of {limit:g}"
        )


def _advice(recipe: Recipe, measured: ProbeRecord, *, leaks: bool, drifts: bool) -> Iterator[str]:
    if leaks:
        yield from _indistinct(recipe, measured)
    harder, softer = _knobs(recipe)
    if leaks and drifts:
        # Where there are many concepts that lowers both (docs/comparison.md, twenty concepts).
        unet_alone = "leave the text encoder as it is (layers: {text_encoder: none}), "
        yield (
            "more erasure means more change here: erase fewer concepts at once, choose anchors "
            f"that are nearer to their targets, {unet_alone if recipe.layers.text_encoder else ''}"
            "or accept other limits"
        )
    elif leaks:
        yield f"{harder}add words that mean the same as concepts (suggest finds some)"
    elif drifts:
        yield f"{softer}choose anchors that are nearer to their targets"


def _knobs(recipe: Recipe) -> tuple[str, str]:
    """What erases harder and what erases less, each followed by ", or "; empty without such a key.

    A tolerance of 0 cannot be lowered.
    """
    if "tolerance" not in METHODS[recipe.method].keys:
        return "", ""
    if recipe.tolerance is None:
        return "raise strength, or ", "lower strength, or "
    return "lower the tolerance, or " if recipe.tolerance else "", "raise the tolerance, or "


def _indistinct(recipe: Recipe, measured: ProbeRecord) -> Iterator[str]:
    """Yield a sentence on leaking concepts whose words the model hardly tells from the anchor."""
    leaking = {concept.target: concept for concept in leaking_concepts(recipe, measured)}
    near = dict.fromkeys(
        m.concept
        for m in measured.leak
        if m.concept in leaking and (m.distance_before or 0.0) < INDISTINCT
    )
    if near:
        names = ", ".join(
            f"{quoted(target)} from {quoted(leaking[target].anchor)}"
            for target in list(near)[:NAMED]
            if target
        )
        yield f"this model hardly tells {names}: it may not know the words at all"


def _count(things: Sequence[object], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
