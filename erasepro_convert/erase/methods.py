"""The function of each solved method: a recipe's settings as an algorithm of closed forms.

``recipe.methods`` has the row of each method, with what it is and what its recipes may say.
"""

from collections.abc import Callable, Iterator

from erasepro_convert.clip.text_encoder import ReadTensor
from erasepro_convert.erase.closed_form import (
    Form,
    null_space_factor,
    pseudo_inverse,
    ridge,
    within,
)
from erasepro_convert.erase.columns import AlignedPrompts
from erasepro_convert.erase.matrix_edit import Edit, Model
from erasepro_convert.erase.progressive import Algorithm, Scope, measure, solve
from erasepro_convert.recipe import Recipe


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


def solve_recipe(model: Model, prompts: AlignedPrompts, recipe: Recipe) -> Iterator[Edit]:
    """Solve a recipe of a closed form; nothing where every target was erased before.

    Raises CheckpointError when features are not finite, LimitError when an edited weight is not or
    when retained prompts leave nothing to change.
    """
    if not prompts.record.prompts:
        return iter(())
    return solve(model, prompts, _scope(recipe), ALGORITHMS[recipe.method](recipe))


def measure_recipe(
    model: Model,
    prompts: AlignedPrompts,
    recipe: Recipe,
    edited: ReadTensor,
    *,
    single_encoder: bool = False,
) -> Iterator[Edit]:
    """Record weights that were solved or trained before, which ``edited`` reads by name.

    ``single_encoder`` asks for the updates that each text encoder alone would need.

    Raises what ``solve_recipe`` does.
    """
    if not prompts.record.prompts:
        return iter(())
    algorithm = TRAINED if recipe.training else ALGORITHMS[recipe.method](recipe)
    scope = _scope(recipe)
    return measure(model, prompts, scope, algorithm, edited, single_encoder=single_encoder)


def _tolerant(recipe: Recipe) -> Form:
    return Form(within(recipe.tolerance) if recipe.tolerance else pseudo_inverse)


def _scope(recipe: Recipe) -> Scope:
    layers = recipe.layers
    # An encoder that is not edited is the stock one: its features count once.
    encoders = recipe.text_encoders if layers.text_encoder else recipe.text_encoders[:1]
    return Scope(
        text_layers=layers.text_encoder,
        unet_blocks=layers.unet,
        text_encoders=encoders,
        clip_skips=recipe.clip_skip,
        retain_weight=recipe.retain.weight,
    )
