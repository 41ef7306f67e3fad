"""Recipes: YAML in, a frozen and fully checked Recipe out."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from erasepro_convert.errors import RecipeError
from erasepro_convert.recipe.document import Document, YamlPath, read_document
from erasepro_convert.recipe.evaluation import Evaluate, Other
from erasepro_convert.recipe.model import Recipe
from erasepro_convert.recipe.sections import Concept, First, Layers, Limits, Probe, Retain
from erasepro_convert.recipe.training import Training

__all__ = ["Concept", "Evaluate", "Recipe", "load_recipe"]

_MODEL_AT: dict[tuple[str, ...], type[BaseModel]] = {
    (): Recipe,
    ("concepts",): Concept,
    ("layers",): Layers,
    ("tokens",): First,
    ("retain",): Retain,
    ("probe",): Probe,
    ("limits",): Limits,
    ("training",): Training,
    ("evaluate",): Evaluate,
    ("evaluate", "others"): Other,
}
"""Which part of a recipe stands at a path (list positions left out)."""


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises RecipeError whose message has a line for each mistake, ``file:line: key: what is wrong``.
    """
    document = read_document(path)
    data = document.data
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys such as version and concepts")
    try:
        context = {"folder": path.parent}  # what a recipe names by a path lies beside it
        return Recipe.model_validate({"name": path.stem, **data}, context=context)
    except ValidationError as error:
        mistakes = [
            (_place(document, mistake["loc"]), mistake)
            for mistake in error.errors()
            if mistake["type"] != "default_factory_not_called"  # follows from another mistake
        ]
        mistakes.sort(key=lambda found: document.lines[found[0]])
        explained = [_explain(path, document.lines[place], place, m) for place, m in mistakes]
        raise RecipeError("\n".join(explained)) from error


def _explain(path: Path, line: int, place: YamlPath, mistake: Any) -> str:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    where = f"{path}:{line}: {key.lstrip('.')}" if place else f"{path}:{line}"
    match mistake["type"]:
        case "extra_forbidden":
            return f"{where}: unknown key{_suggestion(place)}"
        case "missing":
            return f"{where}: {mistake['loc'][-1]} is missing"
        case "value_error":
            return f"{where}: {mistake['ctx']['error']}"
        case "string_type" | "path_type":
            hint = "quote it" if mistake["input"] is not None else 'write "" if you mean no words'
            return f"{where}: should be text, not {mistake['input']!r}; {hint}"
        case _:
            return f"{where}: {mistake['msg'].lower()}, not {str(mistake['input'])[:60]!r}"


def _place(document: Document, loc: tuple[str | int, ...]) -> YamlPath:
    """The part of a pydantic location that exists in the document (it adds tags of its own)."""
    place: YamlPath = ()
    for part in loc:
        if (*place, part) in document.lines:
            place = (*place, part)
    return place


def _suggestion(place: YamlPath) -> str:
    *parents, key = place
    model = _MODEL_AT[tuple(part for part in parents if isinstance(part, str))]
    keys = list(model.model_fields)
    near = get_close_matches(str(key), keys, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(keys)}"
