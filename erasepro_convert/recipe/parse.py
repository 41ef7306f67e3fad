"""From a document to a checked recipe."""

from pathlib import Path

from pydantic import ValidationError

from erasepro_convert.errors import RecipeError
from erasepro_convert.recipe.error_messages import explain_errors
from erasepro_convert.recipe.model import Recipe
from erasepro_convert.recipe.yaml_document import Document, YamlPath


def parse_recipe(document: Document, path: Path) -> Recipe:
    """Check the recipe in a document that was read at ``path``.

    Raises RecipeError, whose message has a line for each mistake: ``file:line: key: problem``.
    """
    data = document.data
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys such as version and concepts")
    try:
        context = {"folder": path.parent}  # relative paths in a recipe start at its folder
        return Recipe.model_validate({"name": path.stem, **data}, context=context)
    except ValidationError as error:
        lines = (
            f"{path}:{document.lines[place]}: {_key(place)}{words}"
            for place, words in explain_errors(error, document)
        )
        raise RecipeError("\n".join(lines)) from error


def _key(place: YamlPath) -> str:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return f"{key.lstrip('.')}: " if place else ""
