"""The function of each solved method: a recipe's settings as an algorithm of closed forms.

``recipe.methods`` has the row of each method, with what it is and what its recipes may say.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from erasepro_convert.clip.text_encoder import ReadTensor
from erasepro_convert.erase.closed_form import (
    Form,
    null_space_factor,
    pseudo_inverse,
    ridge,
    weighted_factor,
    within,
)
from erasepro_convert.erase.columns import AlignedPrompts
from erasepro_convert.erase.matrix_edit import Edit, Model
from erasepro_convert.erase.progressive import measure, solve
from erasepro_convert.erase.read_features import Problem
from erasepro_convert.erase.retained_language import retained_language
from erasepro_convert.erase.scope import Scope
from erasepro_convert.erase.text_pass import kept_name
from erasepro_convert.language.moments import Language
from erasepro_convert.recipe import Recipe


@dataclass(frozen=True)
class Algorithm:
    """The closed form of each layer, and what the target's features pass through.

    See ``Scope.through_updated``.
    """

    form: Form
    through_updated: bool


def erasepro(recipe: Recipe) -> Algorithm:
    """Algorithm 1, with Eq. 5 or its tolerant form."""
    return Algorithm(_tolerant(recipe), through_updated=True)


def erasepro_modified(recipe: Recipe) -> Algorithm:
    """Algorithm 2, with Eq. 5 or its tolerant form."""
    return Algorithm(_tolerant(recipe), through_updated=False)


def uce(recipe: Recipe) -> Algorithm:
    """Eq. 2 (Gandikota et al., 2024)."""
    del recipe
    return Algorithm(Form(ridge), through_updated=False)


def null_space(recipe: Recipe) -> Algorithm:
    """Eq. 2 within what retained prompts hardly use, the solve of SPEED (Li et al., 2026)."""
    del recipe
    return Algorithm(Form(ridge, null_space_factor), through_updated=False)


ALGORITHMS: dict[str, Callable[[Recipe], Algorithm]] = {
    "erasepro": erasepro,
    "erasepro-modified": erasepro_modified,
    "uce": uce,
    "null-space": null_space,
}

TRAINED = Algorithm(Form(pseudo_inverse), through_updated=False)
"""What keys and values are measured by that a training has changed."""


def retains_language(recipe: Recipe) -> bool:
    """Whether the solve of a recipe needs the moments of common language."""
    if recipe.training or not recipe.retain.weight:
        return False
    return ALGORITHMS[recipe.method](recipe).form.factorisation is weighted_factor


def solve_recipe(
    model: Model,
    prompts: AlignedPrompts,
    recipe: Recipe,
    language: Language | None,
    *,
    anew: bool = False,
) -> Iterator[Edit]:
    """Solve a recipe of a closed form; nothing where every target was erased before.

    ``language`` is what ``retains_language`` asks for.  ``anew`` takes no edit from the cache.

    Raises CheckpointError when features are not finite, LimitError when an edited weight is not or
    when retained prompts leave nothing to change.
    """
    if not prompts.record.prompts:
        return iter(())
    algorithm = ALGORITHMS[recipe.method](recipe)
    known = None if anew else model.encoder_digest
    problem = _problem(model, prompts, recipe, algorithm, language, known)
    kept_as = None if anew else kept_name(model, problem, recipe)
    return solve(model, problem, _scope(recipe, algorithm), kept_as)


def measure_recipe(
    model: Model,
    prompts: AlignedPrompts,
    recipe: Recipe,
    language: Language | None,
    edited: ReadTensor,
    *,
    single_encoder: bool = False,
) -> Iterator[Edit]:
    """Record weights that were solved or trained before, which ``edited`` reads by name.

    ``language`` is what ``retains_language`` asks for.  ``single_encoder`` asks for the updates
    that each text encoder alone would need.

    Raises what ``solve_recipe`` does.
    """
    if not prompts.record.prompts:
        return iter(())
    algorithm = TRAINED if recipe.training else ALGORITHMS[recipe.method](recipe)
    problem = _problem(model, prompts, recipe, algorithm, language, known=None)
    scope = _scope(recipe, algorithm)
    return measure(model, problem, scope, edited, single_encoder=single_encoder)


def _tolerant(recipe: Recipe) -> Form:
    match recipe.tolerance:
        case None:
            return Form(spectrum=None)
        case 0:
            return Form(pseudo_inverse)
        case tolerance:
            return Form(within(tolerance))


def _problem(
    model: Model,
    prompts: AlignedPrompts,
    recipe: Recipe,
    algorithm: Algorithm,
    language: Language | None,
    known: str | None,
) -> Problem:
    retained = None
    if language:
        new = [c for c in recipe.concepts if c.target not in prompts.record.held]
        encoder, skip = model.encoder(torch.float32), min(recipe.clip_skip)
        retained = retained_language(language, new, encoder, skip, known)
    return Problem(prompts, algorithm.form, recipe.retain.weight, retained, recipe.strength)


def _scope(recipe: Recipe, algorithm: Algorithm) -> Scope:
    layers = recipe.layers
    # An encoder that is not edited is the stock one: its features count once.
    encoders = recipe.text_encoders if layers.text_encoder else recipe.text_encoders[:1]
    return Scope(
        text_layers=layers.text_encoder,
        unet_blocks=layers.unet,
        text_encoders=encoders,
        clip_skips=recipe.clip_skip,
        through_updated=algorithm.through_updated,
    )
