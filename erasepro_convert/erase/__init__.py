"""Erasure methods: from original weights, aligned prompts and a recipe to a stream of edits."""

from collections.abc import Callable, Iterator

from erasepro_convert.erase.features import Aligned, align
from erasepro_convert.erase.progressive import progressive
from erasepro_convert.erase.solve import Edit, Model, change
from erasepro_convert.erase.solver import Spectrum, pseudo_inverse, ridge, within
from erasepro_convert.recipe import Recipe

__all__ = ["METHODS", "Aligned", "Edit", "Model", "align", "change"]

Method = Callable[[Model, Aligned, Recipe], Iterator[Edit]]


def _tolerant(recipe: Recipe) -> Spectrum:
    return within(recipe.tolerance) if recipe.tolerance else pseudo_inverse


def _erasepro(model: Model, aligned: Aligned, recipe: Recipe) -> Iterator[Edit]:
    return progressive(model, aligned, recipe, spectrum=_tolerant(recipe), through_updated=True)


def _erasepro_modified(model: Model, aligned: Aligned, recipe: Recipe) -> Iterator[Edit]:
    return progressive(model, aligned, recipe, spectrum=_tolerant(recipe), through_updated=False)


def _uce(model: Model, aligned: Aligned, recipe: Recipe) -> Iterator[Edit]:
    return progressive(model, aligned, recipe, spectrum=ridge, through_updated=False)


def _measured(model: Model, aligned: Aligned, recipe: Recipe) -> Iterator[Edit]:
    """What training made of keys and values, as the closed forms' are measured."""
    return progressive(model, aligned, recipe, spectrum=pseudo_inverse, through_updated=False)


METHODS: dict[str, Method] = {
    "erasepro": _erasepro,
    "erasepro-modified": _erasepro_modified,
    "uce": _uce,
    "esd-x": _measured,
    "esd-u": _measured,
    "ac": _measured,
}
