"""The JSON Schema of recipes, for editors: it accepts what the loader accepts."""

from erasepro_convert.recipe.model import Recipe
from erasepro_convert.runtime.hashing import schema_text

SCHEMA_FILE = "recipe.schema.json"


def schema_json() -> str:
    """Return the JSON Schema of recipes, as shipped in ``recipes/recipe.schema.json``."""
    schema = Recipe.model_json_schema(mode="validation")
    schema["required"] = ["version", "concepts"]  # the file's name stands in for a missing name
    del schema["$defs"]["Training"]["required"]  # the method has defaults for each
    return schema_text(schema)


def schema_line(place: str) -> str:
    """Return the comment by which editors find the schema at ``place``, relative to the recipe."""
    return f"# yaml-language-server: $schema={place}\n"
