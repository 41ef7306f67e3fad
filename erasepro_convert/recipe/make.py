"""A recipe from plain data, for programs that have no YAML file."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from erasepro_convert.errors import RecipeError
from erasepro_convert.recipe.error_messages import explain_errors
from erasepro_convert.recipe.model import Recipe
from erasepro_convert.recipe.yaml_document import Document, YamlPath


def make_recipe(data: Mapping[str, Any]) -> Recipe:
    """Return the recipe of plain data, which has the keys and the values of a YAML file.

    ``version`` need not be given, and ``name`` is "recipe" unless it is.  Raises RecipeError, whose
    message has a line for each mistake: ``key: problem``.
    """
    data = {"version": 1, "name": "recipe", **data}
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        mistakes = explain_errors(error, Document(data, dict.fromkeys(_places(data), 1)))
        raise RecipeError("\n".join(f"{_key(place)}{text}" for place, text in mistakes)) from error


def _places(value: object, place: YamlPath = ()) -> Iterator[YamlPath]:
    """Give the path of each value of plain data."""
    yield place
    match value:
        case Mapping():
            for key, part in value.items():
                yield from _places(part, (*place, key))
        case list() | tuple():
            for number, part in enumerate(value):
                yield from _places(part, (*place, number))


def _key(place: YamlPath) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    key = "".join(parts).lstrip(".")
    return f"{key}: " if key else ""
