"""Erasure methods: from original weights, aligned prompts and a recipe to a stream of edits."""

from collections.abc import Callable, Iterator
from functools import partial

from erasepro_convert.erase.features import Aligned, align
from erasepro_convert.erase.progressive import Edit, Model, progressive
from erasepro_convert.erase.solver import pseudo_inverse, ridge
from erasepro_convert.recipe import Recipe

__all__ = ["METHODS", "Aligned", "Edit", "Model", "align"]

METHODS: dict[str, Callable[[Model, Aligned, Recipe], Iterator[Edit]]] = {
    "erasepro": partial(progressive, spectrum=pseudo_inverse, through_updated=True),
    "erasepro-modified": partial(progressive, spectrum=pseudo_inverse, through_updated=False),
    "uce": partial(progressive, spectrum=ridge, through_updated=False),
}
