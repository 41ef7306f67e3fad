"""Erase concepts from a state dict in memory, for programs that have the model loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from erasepro_convert.conversion.erase_checkpoint import (
    CheckpointErasure,
    erase_what_is_new,
    require_limits,
)
from erasepro_convert.conversion.erasure import run_erasure
from erasepro_convert.conversion.synonyms import with_synonyms
from erasepro_convert.manifest import ProbeRecord
from erasepro_convert.manifest.verdict import Check, check_measures
from erasepro_convert.recipe import Recipe, as_recipe
from erasepro_convert.runtime.progress import Progress, silent
from erasepro_convert.sd1.sd1_weights import recognise_state_dict


@dataclass(frozen=True)
class Erased:
    """The result of an erasure in memory.

    ``weights`` are the edited tensors alone, on the CPU, under the names and with the shapes and
    dtypes that they were given with.  ``recipe`` has the synonyms that were found; ``probe`` is
    what a manifest would say of leak, drift and reach, and ``checks`` what a verdict would.
    """

    weights: Mapping[str, Tensor]
    recipe: Recipe
    probe: ProbeRecord
    checks: tuple[Check, ...]


def erase_state_dict(
    recipe: Recipe | Path | str, state_dict: Mapping[str, Tensor], progress: Progress = silent
) -> Erased:
    """Erase the recipe's concepts from the tensors of an SD1.x model, which stay as they are.

    ``state_dict`` holds a U-Net and its text encoder, with names in any spelling that files have; a
    VAE is not needed.  The edited weights are those that ``convert`` writes for a file with these
    tensors and without metadata.

    Raises RecipeError for a recipe or prompts that do not fit and for a method that is trained,
    CheckpointError for tensors that are not a sound SD1.x model, LimitError when the result does
    not hold.
    """
    base = recognise_state_dict(state_dict)
    recipe, found = with_synonyms(as_recipe(recipe), base, progress)
    erase = partial(run_erasure, base, recipe, None, progress)
    erasure, _ = erase_what_is_new(recipe, base, erase, ())
    require_limits(CheckpointErasure(erasure, None, found), "the model")
    names = base.layout.source
    weights = {
        # A copy, since what was computed in inference mode cannot be trained on.
        names[name]: weight.reshape(state_dict[names[name]].shape).clone()
        for name, weight in erasure.weights.items()
    }
    checks = tuple(check_measures(recipe, [erasure.probe], erasure.changes))
    return Erased(weights, recipe, erasure.probe, checks)
