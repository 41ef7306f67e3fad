"""Erasure methods: from original weights, aligned prompts and a recipe to a stream of edits."""

from collections.abc import Callable, Iterator

from erasepro_convert.erase.closed_form import Form, pseudo_inverse, ridge, unused, within
from erasepro_convert.erase.matrix_edit import Edit, Model, change
from erasepro_convert.erase.pairing import Aligned, align
from erasepro_convert.erase.progressive import progressive
from erasepro_convert.recipe import Recipe

__all__ = ["METHODS", "Aligned", "Edit", "Model", "align", "change"]

Method = Callable[[Model, Aligned, Recipe], Iterator[Edit]]


def _tolerant(recipe: Recipe) -> Form:
    return Form(within(recipe.tolerance) if recipe.tolerance else pseudo_inverse)


def _erasepro(model: Model, aligned: Aligned, recipe: Recipe) -> Iterator[Edit]:
    return progressive(model, aligned, recipe, form=_tolerant(recipe), through_updated=True)


def _erasepro_modified(model: Model, aligned: Aligned, recipe: Recipe) -> Iterator[Edit]:
    return progressive(model, aligned, recipe, form=_tolerant(recipe), through_updated=False)


def _uce(model: Model, aligned: Aligned, recipe: Recipe) -> Iterator[Edit]:
    return progressive(model, aligned, recipe, form=Form(ridge), through_updated=False)


def _null_space(model: Model, aligned: Aligned, recipe: Recipe) -> Iterator[Edit]:
    return progressive(model, aligned, recipe, form=Form(ridge, unused), through_updated=False)


def _measured(model: Model, aligned: Aligned, recipe: Recipe) -> Iterator[Edit]:
    """What training made of keys and values, as the closed forms' are measured."""
    return progressive(model, aligned, recipe, form=Form(pseudo_inverse), through_updated=False)


METHODS: dict[str, Method] = {
    "erasepro": _erasepro,
    "erasepro-modified": _erasepro_modified,
    "uce": _uce,
    "null-space": _null_space,
    "esd-x": _measured,
    "esd-u": _measured,
    "ac": _measured,
}
