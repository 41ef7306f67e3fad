"""What of a result exceeds the recipe's limits, and what to try then."""

from collections.abc import Iterable, Iterator

from erasepro_convert.manifest import Change, ProbeRecord
from erasepro_convert.recipe import Recipe

ADVICE = {
    "leak": "add words that mean the same as concepts (suggest finds some), or templates, or lower "
    "the tolerance",
    "drift": "raise the tolerance or retain.weight, or add such prompts to retain.prompts",
    "relative_update": "raise the tolerance, or use fewer prompts",
}


def exceeded(recipe: Recipe, measured: ProbeRecord, edits: Iterable[Change]) -> tuple[str, ...]:
    """A sentence for each limit that is exceeded: which, by how much, where, and what to try."""
    return (*of_probe(recipe, measured), *_of_updates(recipe, edits))


def of_probe(recipe: Recipe, measured: ProbeRecord) -> Iterator[str]:
    """Those on leak and drift."""
    for measure in (*measured.leak, *measured.drift):
        name = "leak" if measure.concept else "drift"
        limit = getattr(recipe.limits, name)
        if limit is not None and measure.mean > limit:
            of = f" of {measure.concept!r}" if measure.concept else ""
            yield (
                f"{name}{of} with the {measure.feed.text_encoder} text encoder is "
                f"{measure.mean:.2f}, the limit is {limit:g}; worst at {measure.worst_prompt!r} "
                f"({measure.worst:.2f}): {ADVICE[name]}"
            )


def _of_updates(recipe: Recipe, edits: Iterable[Change]) -> Iterator[str]:
    limit = recipe.limits.relative_update
    worst = max(edits, key=lambda edit: edit.relative_update, default=None)
    if limit is not None and worst and worst.relative_update > limit:
        yield (
            f"relative update of {worst.name} is {worst.relative_update:.2f}, the limit is "
            f"{limit:g}: {ADVICE['relative_update']}"
        )
