"""Which tensors a recipe edits, known before anything is computed."""

from erasepro_convert.recipe import Recipe
from erasepro_convert.recipe.methods import METHODS
from erasepro_convert.sd1 import edited_names, trained_names
from erasepro_convert.sd1.keys import Widths


def edited_tensors(recipe: Recipe, widths: Widths) -> tuple[str, ...]:
    """The original names of the tensors that the recipe edits in a checkpoint of these widths."""
    layers = recipe.layers
    if recipe.training:
        return trained_names(widths, recipe.training.parameters, layers.unet)
    values_only = METHODS[recipe.method].values_only
    return edited_names(layers.text_encoder, layers.unet, values_only=values_only)
