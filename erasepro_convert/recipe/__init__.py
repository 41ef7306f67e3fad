"""Recipes: load_recipe reads YAML and returns a frozen Recipe that is fully checked."""

from pathlib import Path

from pydantic import ValidationError

from erasepro_convert.errors import RecipeError
from erasepro_convert.recipe.error_messages import explain_errors
from erasepro_convert.recipe.evaluation import Evaluate
from erasepro_convert.recipe.model import Recipe
from erasepro_convert.recipe.sections import Concept
from erasepro_convert.recipe.yaml_document import YamlPath, read_document

__all__ = ["Concept", "Evaluate", "Recipe", "as_recipe", "load_recipe"]


def as_recipe(recipe: Recipe | Path | str) -> Recipe:
    """A recipe as it is, or the one in a YAML file.  Raises RecipeError as ``load_recipe`` does."""
    return recipe if isinstance(recipe, Recipe) else load_recipe(recipe)


def load_recipe(path: Path | str) -> Recipe:
    """Read and check a recipe in a YAML file.

    Raises RecipeError, whose message has a line for each mistake: ``file:line: key: problem``.
    """
    path = Path(path)
    document = read_document(path)
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
