"""The erasure of one checkpoint: of its U-Net, of a kept EMA copy, with the settings that hold."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial

import torch

from erasepro_convert.conversion.erasure import Erasure, run_erasure
from erasepro_convert.conversion.lora import Lora, make_lora
from erasepro_convert.conversion.preflight import Conversion
from erasepro_convert.conversion.synonyms import Found, with_synonyms
from erasepro_convert.errors import LimitError
from erasepro_convert.manifest.verdict import Verdict, refusal
from erasepro_convert.probing.already_erased import claimed_erased, measured_erased
from erasepro_convert.probing.limits import exceeded, leaking_concepts
from erasepro_convert.recipe import Concept, Recipe
from erasepro_convert.runtime.dtypes import option_dtype
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.sd1.sd1_weights import SD1Weights


@dataclass(frozen=True)
class CheckpointErasure:
    """The erasure, the one on a kept EMA copy of the U-Net, and what was found for it."""

    main: Erasure
    ema: Erasure | None
    synonyms: Found
    """What the recipe's ``synonyms: auto`` found, by target."""
    lora: Lora | None = None

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """All edited weights by tensor name."""
        return self.main.weights | (self.ema.weights if self.ema else {})

    @property
    def exceeded(self) -> tuple[str, ...]:
        """A sentence for each of the recipe's limits that is exceeded."""
        found = exceeded(self.main.recipe, self.main.probe, self.main.changes)
        if self.ema:
            of_ema = exceeded(self.ema.recipe, self.ema.probe, self.ema.changes)
            if found and of_ema:
                return (*found, "the EMA copy of the U-Net does not hold either")
            found = (*found, *(f"EMA copy: {line}" for line in of_ema))
        if found or not self.lora:
            return found
        return tuple(f"LoRA: {line}" for line in self.lora.exceeded)

    def refusal(self, source: str) -> Verdict:
        """Return the verdict where a limit is exceeded; ``source`` is the checkpoint's name."""
        both = [self.main, *([self.ema] if self.ema else [])]
        changes = [change for erasure in both for change in erasure.changes]
        return refusal(source, self.main.recipe, [one.probe for one in both], changes)


def erase_checkpoint(
    conversion: Conversion,
    already_erased: frozenset[str] | None,
    progress: Progress,
    *,
    anew: bool = False,
) -> CheckpointErasure:
    """Run the recipe on a checkpoint.

    ``already_erased`` are targets that were erased from it before (None: that is found out).
    ``anew`` takes nothing that an earlier run left in the cache.

    Raises LimitError for what exceeds the recipe's limits, except in a dry run, and UsageError
    where there is nothing for the LoRA that was asked for.
    """
    base, options = conversion.base, conversion.options
    dtype = option_dtype(options.dtype)
    recipe, found = with_synonyms(conversion.recipe, base, progress)
    run = partial(run_erasure, recipe=recipe, dtype=dtype, progress=progress, anew=anew)
    erase = partial(run, base, state=conversion.training_state)
    if already_erased is not None or recipe.training:
        already_erased = already_erased or frozenset()
        main = erase(already_erased=already_erased)
    else:
        claimed = claimed_erased(recipe, base, conversion.source)
        main, already_erased = erase_what_is_new(recipe, base, erase, claimed)
    ema = None
    if base.layout.ema == "convert":
        ema = run(base.with_ema_as_unet(), already_erased=already_erased).as_ema_copy()
    erasure = CheckpointErasure(main, ema, found)
    if not options.dry_run:
        require_limits(erasure, base.checkpoint.name)
    if options.lora:
        erasure = replace(erasure, lora=make_lora(base, main, options.lora_rank, progress))
        if not options.dry_run:
            require_limits(erasure, base.checkpoint.name)
    return erasure


def require_limits(erasure: CheckpointErasure, source: str) -> None:
    """Raise LimitError for what exceeds a limit; ``source`` is the model's name in its verdict."""
    if not erasure.exceeded:
        return
    verdict = erasure.refusal(source)  # of the checkpoint alone: it says nothing of a LoRA
    message = "\n- ".join(("the result does not hold:", *erasure.exceeded))
    raise LimitError(message, None if verdict.held else verdict)


def erase_what_is_new(
    recipe: Recipe,
    base: SD1Weights,
    erase: Callable[..., Erasure],
    claimed: Collection[Concept],
) -> tuple[Erasure, frozenset[str]]:
    """Return the erasure of what was not erased before, and the targets that were.

    ``erase`` runs the recipe, given those targets; ``claimed`` are the concepts that something says
    were erased.
    """
    known = measured_erased(recipe, base, claimed)
    erasure = erase(already_erased=known)
    # An earlier erasure that nothing tells of shows in what solving cannot reduce.
    if more := measured_erased(recipe, base, leaking_concepts(recipe, erasure.probe)) - known:
        known |= more
        erasure = erase(already_erased=known)
    return erasure, known
