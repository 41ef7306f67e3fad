"""A small search for the settings that suit a checkpoint, on text features alone.

It varies one setting after the other around the best try so far: tolerance, retain weight, number
of templates, tokens.  Among the tries within the recipe's limits on drift and update, the one with
the least leak is chosen.
"""

from collections.abc import Callable

import torch

from erasepro_convert.conversion.erasure import Erasure, run_erasure
from erasepro_convert.errors import LimitError
from erasepro_convert.manifest import Try, Tuning
from erasepro_convert.recipe import Recipe
from erasepro_convert.recipe.methods import METHODS
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint

START = 0.15
"""The tolerance to search around, where the recipe asks for the exact solve."""

LOOSEST = 0.9
"""The largest tolerance to try; 1 would allow to do nothing."""

Change = Callable[[Recipe], Recipe]


def _tolerance(factor: float) -> Change:
    def change(best: Recipe) -> Recipe:
        tolerance = (best.tolerance or START) * factor
        return best.changed(tolerance=round(min(tolerance, LOOSEST), 4))

    return change


def _weight(weight: float) -> Change:
    return lambda best: best.changed(retain={**best.retain.model_dump(), "weight": weight})


def _templates(count: int) -> Change:
    return lambda best: best.changed(
        concepts=[{**c.model_dump(), "prompts": c.prompts[:count]} for c in best.concepts]
    )


def _tokens(tokens: object) -> Change:
    return lambda best: best.changed(tokens=tokens)


WITHOUT_TOLERANCE: tuple[tuple[Change, ...], ...] = ((_templates(4),), (_tokens({"first": 8}),))
SEARCH: tuple[tuple[Change, ...], ...] = (
    (_tolerance(0.5), _tolerance(2)),
    (_weight(1), _weight(100)),
    *WITHOUT_TOLERANCE,
)


def tune(
    source: SD1Checkpoint,
    recipe: Recipe,
    dtype: torch.dtype | None,
    progress: Progress,
    already_erased: frozenset[str] = frozenset(),
) -> tuple[Erasure, Tuning]:
    """Search for settings; gives the best erasure, and the record of all tries.

    The first try is the recipe as it stands.  Targets in ``already_erased`` were erased from the
    checkpoint before.

    Raises LimitError when no setting gives weights that can be stored.
    """
    stages = SEARCH if "tolerance" in METHODS[recipe.method].keys else WITHOUT_TOLERANCE
    total = 1 + sum(map(len, stages))
    given = recipe.changed(settings=None)
    best: tuple[Erasure, Try] | None = None
    chosen = 0
    tries: list[Try] = []
    for stage in ((_unchanged,), *stages):
        centre = best[0].recipe if best else given
        for change in stage:
            progress("tune", len(tries), total)
            tried = _try(source, change(centre), dtype, progress, already_erased)
            tries.append(tried[1])
            if tried[0] and (best is None or _rank(tried[1]) < _rank(best[1])):
                best, chosen = (tried[0], tried[1]), len(tries) - 1
    progress("tune", total, total)
    if best is None:
        raise LimitError("no setting that was tried gives weights that can be stored")
    return best[0], Tuning(recipe_sha256=recipe.digest, tries=tuple(tries), chosen=chosen)


def _unchanged(recipe: Recipe) -> Recipe:
    return recipe


def _try(
    source: SD1Checkpoint,
    recipe: Recipe,
    dtype: torch.dtype | None,
    progress: Progress,
    already_erased: frozenset[str],
) -> tuple[Erasure | None, Try]:
    prompts = max(len(concept.prompts) for concept in recipe.concepts)
    setting = Try(
        tolerance=recipe.tolerance,
        retain_weight=recipe.retain.weight,
        templates=prompts,
        tokens=recipe.tokens,
    )
    try:
        tried = run_erasure(source, recipe, dtype, progress, already_erased=already_erased)
    except LimitError as error:
        return None, setting.model_copy(update={"refused": str(error)})
    leak = max(measure.mean for measure in tried.probe.leak)
    drift = max(measure.mean for measure in tried.probe.drift)
    update = max((edit.record.relative_update for edit in tried.edits.values()), default=0.0)
    limits = recipe.limits
    within = all(
        limit is None or value <= limit
        for value, limit in ((drift, limits.drift), (update, limits.relative_update))
    )
    measures = {"leak": leak, "drift": drift, "relative_update": update, "within": within}
    return tried, setting.model_copy(update=measures)


def _rank(tried: Try) -> tuple[bool, float]:
    """A key to order tries by, the best first: by leak within the limits, by drift beyond them."""
    value = tried.leak if tried.within else tried.drift
    assert value is not None  # only tries that gave weights are ranked
    return not tried.within, value
