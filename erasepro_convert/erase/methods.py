"""The function of each solved method: a recipe's settings as an algorithm of closed forms.

``recipe.methods`` has the row of each method, with what it is and what its recipes may say.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from erasepro_convert.clip.text_encoder import ReadTensor
from erasepro_convert.erase.closed_form import null_space_factor, pseudo_inverse, ridge, within
from erasepro_convert.erase.columns import AlignedPrompts
from erasepro_convert.erase.form import Form
from erasepro_convert.erase.matrix_edit import Edit, Model
from erasepro_convert.erase.progressive import measure, solve
from erasepro_convert.erase.published import cure, double_projections, oce, speed, trce
from erasepro_convert.erase.read_features import Problem
from erasepro_convert.erase.retained_language import retained_language
from erasepro_convert.erase.scope import Scope
from erasepro_convert.erase.spectral_form import spectral_form
from erasepro_convert.erase.text_pass import kept_name
from erasepro_convert.language.moments import Language
from erasepro_convert.recipe import Recipe
from erasepro_convert.recipe.methods import METHODS


@dataclass(frozen=True)
class Algorithm:
    """The closed form of each layer, and what the target's features pass through.

    See ``Scope.through_updated``.
    """

    form: Form
    through_updated: bool = False


def erasepro(recipe: Recipe) -> Algorithm:
    """Algorithm 1, with Eq. 5 or its tolerant form."""
    return Algorithm(_tolerant(recipe), through_updated=True)


def erasepro_modified(recipe: Recipe) -> Algorithm:
    """Algorithm 2, with Eq. 5 or its tolerant form."""
    return Algorithm(_tolerant(recipe))


def difference_projector(recipe: Recipe) -> Algorithm:
    """What tells targets from their anchors is projected out of the cross-attention."""
    return Algorithm(_tolerant(recipe, of_difference=True))


def uce(recipe: Recipe) -> Algorithm:
    """Eq. 2 (Gandikota et al., 2024)."""
    del recipe
    return Algorithm(spectral_form(ridge))


def null_space(recipe: Recipe) -> Algorithm:
    """Eq. 2 within what retained prompts hardly use, the solve of SPEED (Li et al., 2026)."""
    del recipe
    return Algorithm(spectral_form(ridge, null_space_factor))


def _published(form: Callable[[Recipe], Form]) -> Callable[[Recipe], Algorithm]:
    """Return the algorithm of a closed form that edits the cross-attention alone."""
    return lambda recipe: Algorithm(form(recipe))


ALGORITHMS: dict[str, Callable[[Recipe], Algorithm]] = {
    "erasepro": erasepro,
    "erasepro-modified": erasepro_modified,
    "difference-projector": difference_projector,
    "uce": uce,
    "null-space": null_space,
    "speed": _published(speed.form),
    "oce": _published(oce.form),
    "double-projections": _published(double_projections.form),
    "cure": _published(cure.form),
    "trce": _published(trce.form),
}

TRAINED = Algorithm(spectral_form(pseudo_inverse))
"""What keys and values are measured by that a training has changed."""


def retains_language(recipe: Recipe) -> bool:
    """Whether the solve of a recipe needs the moments of common language."""
    if recipe.training or not recipe.retain.weight:
        return False
    return ALGORITHMS[recipe.method](recipe).form.knows_language


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


def _tolerant(recipe: Recipe, *, of_difference: bool = False) -> Form:
    match recipe.tolerance:
        case None:
            return spectral_form(None, of_difference=of_difference)
        case 0:
            return spectral_form(pseudo_inverse, of_difference=of_difference)
        case tolerance:
            return spectral_form(within(tolerance), of_difference=of_difference)


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
        values_only=METHODS[recipe.method].values_only,
    )
