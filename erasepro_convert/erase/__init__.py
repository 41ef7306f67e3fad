"""Closed-form erasure: from original weights, aligned prompts and a recipe to a stream of edits."""

from erasepro_convert.erase.columns import AlignedPrompts, align
from erasepro_convert.erase.matrix_edit import Edit, Model, change
from erasepro_convert.erase.methods import measure_recipe, solve_recipe

__all__ = ["AlignedPrompts", "Edit", "Model", "align", "change", "measure_recipe", "solve_recipe"]
