"""Which of the recipe's limits a result exceeds, and what to try then."""

from collections.abc import Iterable, Iterator

from erasepro_convert.manifest import Change, ProbeRecord, PromptMeasure
from erasepro_convert.recipe import Concept, Recipe

ADVICE = {
    "leak": "add words that mean the same as concepts (suggest finds some), or templates, or lower "
    "the tolerance",
    "drift": "raise the tolerance or retain.weight, or add such prompts to retain.prompts",
    "relative_update": "raise the tolerance, or use fewer prompts",
}


def exceeded(recipe: Recipe, measured: ProbeRecord, edits: Iterable[Change]) -> tuple[str, ...]:
    """A sentence for each limit that is exceeded: which, by how much, where, and what to try."""
    return (*exceeded_by_probe(recipe, measured), *_exceeded_by_updates(recipe, edits))


def exceeded_by_probe(recipe: Recipe, measured: ProbeRecord) -> Iterator[str]:
    """A sentence for each limit on leak or drift that is exceeded."""
    for name, measures in (("leak", measured.leak), ("drift", measured.drift)):
        limit = getattr(recipe.limits, name)
        for measure in measures:
            if _is_above(measure, limit):
                of = f" of {measure.concept!r}" if measure.concept else ""
                yield (
                    f"{name}{of} with the {measure.feed.text_encoder} text encoder is "
                    f"{measure.mean:.2f}, the limit is {limit:g}; worst at "
                    f"{measure.worst_prompt!r} ({measure.worst:.2f}): {ADVICE[name]}"
                )


def leaking_concepts(recipe: Recipe, measured: ProbeRecord) -> list[Concept]:
    """The concepts whose leak is above the recipe's limit with any text encoder or clip skip."""
    above = {m.concept for m in measured.leak if _is_above(m, recipe.limits.leak)}
    return [concept for concept in recipe.concepts if concept.target in above]


def _is_above(measure: PromptMeasure, limit: float | None) -> bool:
    return limit is not None and measure.mean > limit


def _exceeded_by_updates(recipe: Recipe, edits: Iterable[Change]) -> Iterator[str]:
    limit = recipe.limits.relative_update
    worst = max(edits, key=lambda edit: edit.relative_update, default=None)
    if limit is not None and worst and worst.relative_update > limit:
        yield (
            f"relative update of {worst.name} is {worst.relative_update:.2f}, the limit is "
            f"{limit:g}: {ADVICE['relative_update']}"
        )
