"""Recipes: load_recipe reads YAML and returns a frozen Recipe that is fully checked."""

from pathlib import Path

from erasepro_convert.library import recipe_files
from erasepro_convert.recipe.combine import recipe_from_words, recipe_of_several
from erasepro_convert.recipe.evaluation import Evaluate
from erasepro_convert.recipe.model import Recipe
from erasepro_convert.recipe.parse import parse_recipe
from erasepro_convert.recipe.sections import Concept
from erasepro_convert.recipe.yaml_document import parse_document, read_document

__all__ = [
    "Concept",
    "Evaluate",
    "Recipe",
    "as_recipe",
    "load_recipe",
    "recipe_from_words",
    "recipe_from_yaml",
]


def as_recipe(recipe: Recipe | Path | str) -> Recipe:
    """A recipe as it is, or the one that is given by path or name, as ``load_recipe`` reads it."""
    return recipe if isinstance(recipe, Recipe) else load_recipe(recipe)


def load_recipe(recipe: Path | str, folder: Path = Path()) -> Recipe:
    """Read and check a recipe: a YAML file, the name of one, or several of either with commas.

    Several are one recipe with the concepts of all.  Paths are relative to ``folder``.

    Raises UsageError for a name that no recipe has, and RecipeError, whose message has a line for
    each mistake: ``file:line: key: problem``.
    """
    files = recipe_files(recipe, folder)
    documents = [read_document(file) for file in files]
    recipes = [parse_recipe(*pair) for pair in zip(documents, files, strict=True)]
    return recipes[0] if len(recipes) == 1 else recipe_of_several(recipes, documents)


def recipe_from_yaml(text: str) -> Recipe:
    """Check a recipe in YAML text, as ``load_recipe`` does that of a file ``recipe.yaml``."""
    path = Path("recipe.yaml")
    return parse_recipe(parse_document(text, path), path)
