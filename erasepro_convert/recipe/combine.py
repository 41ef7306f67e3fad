"""One recipe of several, and a recipe of words alone."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from pydantic import ValidationError

from erasepro_convert.errors import RecipeError
from erasepro_convert.recipe.error_messages import explain_errors
from erasepro_convert.recipe.fields import describe_value
from erasepro_convert.recipe.model import Recipe
from erasepro_convert.recipe.yaml_document import Document
from erasepro_convert.runtime.wording import counted

_OF_EACH = ("version", "name", "about", "concepts")
"""Keys that each of several recipes has for itself."""


def recipe_of_several(recipes: Sequence[Recipe], documents: Sequence[Document]) -> Recipe:
    """Return one recipe with the concepts of all, which are solved together.

    ``documents`` are what the recipes were read from.  A key that some of them set has to have one
    value in all of these.  A concept that several have counts once.

    Raises RecipeError, with both names, for recipes that contradict each other.
    """
    own = [_own_keys(*pair) for pair in zip(recipes, documents, strict=True)]
    named = [(recipe.name, keys) for recipe, keys in zip(recipes, own, strict=True)]
    merged: dict[str, Any] = {}
    for (one, its_keys), (other, other_keys) in combinations(named, 2):
        _merge(its_keys, other_keys, one, other)
    for keys in own:
        merged = _merge(merged, keys, "", "")
    concepts: list[object] = []
    for document in documents:
        assert isinstance(document.data, dict)
        concepts += [one for one in document.data["concepts"] if one not in concepts]
    name = "+".join(recipe.name for recipe in recipes)
    return _check({"version": 1, "name": name, "concepts": concepts, **merged}, f"{name}: ")


def recipe_from_words(targets: Sequence[str], anchors: Sequence[str]) -> Recipe:
    """Return the recipe that erases each target, with all defaults.

    There is one anchor for all targets, or one for each.  Raises RecipeError otherwise, and for
    words that no recipe can have.
    """
    if not targets:
        raise RecipeError("--anchor says what a target becomes: --target is missing")
    if not anchors:
        raise RecipeError(
            '--target needs --anchor, what it becomes, such as "artist"; --anchor "" is nothing'
        )
    if len(anchors) not in (1, len(targets)):
        raise RecipeError(
            f"--target is given {counted(len(targets), 'time')} and --anchor "
            f"{counted(len(anchors), 'time')}: "
            "give one anchor for all targets, or one for each"
        )
    each = anchors if len(anchors) > 1 else [*anchors] * len(targets)
    concepts = [{"target": t, "anchor": a} for t, a in zip(targets, each, strict=True)]
    return _check({"version": 1, "name": "+".join(targets), "concepts": concepts}, "--target: ")


def _own_keys(recipe: Recipe, document: Document) -> dict[str, Any]:
    assert isinstance(document.data, dict)
    own = {key: value for key, value in document.data.items() if key not in _OF_EACH}
    if recipe.evaluate.csv:  # relative to the file that names it
        own["evaluate"] = {**own["evaluate"], "csv": str(recipe.evaluate.csv)}
    return own


def _merge(
    mine: Mapping[str, Any], theirs: Mapping[str, Any], one: str, other: str, above: str = ""
) -> dict[str, Any]:
    """Return the keys of both, section by section; raise RecipeError where values differ."""
    merged = {**theirs, **mine}
    for key in (key for key in mine if key in theirs):
        a, b = mine[key], theirs[key]
        if isinstance(a, dict) and isinstance(b, dict):
            merged[key] = _merge(a, b, one, other, f"{above}{key}.")
        elif a != b:
            raise RecipeError(
                f"{one} and {other} cannot be erased together: {above}{key} is "
                f"{describe_value(a)} in {one} and {describe_value(b)} in {other}"
            )
    return merged


def _check(data: dict[str, Any], origin: str) -> Recipe:
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        mistakes = explain_errors(error, Document(data, {(): 1}))
        raise RecipeError("\n".join(f"{origin}{words}" for _, words in mistakes)) from error
