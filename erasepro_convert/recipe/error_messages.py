"""Messages for mistakes in a recipe's values, which say what to write instead."""

import json
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from erasepro_convert.recipe.confusable_characters import syntax_hint
from erasepro_convert.recipe.evaluation import Evaluate, Other
from erasepro_convert.recipe.fields import describe_value
from erasepro_convert.recipe.model import Recipe
from erasepro_convert.recipe.release import Release
from erasepro_convert.recipe.sections import (
    Calibration,
    Concept,
    FirstPositions,
    Layers,
    Limits,
    Probe,
    Retain,
)
from erasepro_convert.recipe.training import Training
from erasepro_convert.recipe.yaml_document import Document, YamlPath

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_MODEL_AT: dict[tuple[str, ...], type[BaseModel]] = {
    (): Recipe,
    ("concepts",): Concept,
    ("layers",): Layers,
    ("tokens",): FirstPositions,
    ("retain",): Retain,
    ("calibration",): Calibration,
    ("probe",): Probe,
    ("limits",): Limits,
    ("training",): Training,
    ("release",): Release,
    ("evaluate",): Evaluate,
    ("evaluate", "others"): Other,
}
"""The model of the section at each path in a recipe (without positions in lists)."""

_BOUNDS = {
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "multiple_of": "a multiple of {multiple_of:g}",
    "finite_number": "a finite number",
}
"""What a number should be, by pydantic's type of error."""

_TYPES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "path_type": "text",
    "tuple_type": "a list",
}
"""What a value should be, by pydantic's type of error."""

NOTHING = " (~, null and an empty place all are)"
"""What follows "should be …, not nothing"."""


def explain_errors(error: ValidationError, document: Document) -> list[tuple[YamlPath, str]]:
    """A message for each mistake with the path of its value, once each, in the order of lines."""
    found = [(_path(document, mistake["loc"]), mistake) for mistake in error.errors()]
    messages = dict.fromkeys(
        (path, _message(path, mistake))
        for path, mistake in found
        if not _follows_from_another(path, mistake, found)
    )
    return sorted(messages, key=lambda message: document.lines[message[0]])


def _path(document: Document, loc: tuple[str | int, ...]) -> YamlPath:
    """The part of a pydantic location that is in the document; pydantic adds tags of its own."""
    path: YamlPath = ()
    for part in loc:
        if (*path, part) in document.lines:
            path = (*path, part)
    return path


def _follows_from_another(
    path: YamlPath, mistake: "ErrorDetails", found: list[tuple[YamlPath, "ErrorDetails"]]
) -> bool:
    """Whether a mistake only follows from another one, which is reported."""
    match mistake["type"]:
        case "default_factory_not_called":
            return True
        case "int_type":  # a union of float and int reports both
            return any(there == path and other["type"] == "float_type" for there, other in found)
        case "missing":  # the key may be there, misspelt
            return any(
                other["type"] == "extra_forbidden"
                and there[:-1] == path
                and _nearest(there) == mistake["loc"][-1]
                for there, other in found
            )
    return False


def _message(path: YamlPath, mistake: "ErrorDetails") -> str:
    kind, value, context = mistake["type"], mistake["input"], mistake.get("ctx", {})
    match kind:
        case "extra_forbidden":
            return f"unknown key{_key_advice(path)}"
        case "missing":
            return f"{mistake['loc'][-1]} is missing"
        case "value_error":
            return str(context["error"])
        case "literal_error":
            return _one_of(str(context["expected"]), value)
    if kind in _BOUNDS:
        should = _BOUNDS[kind].format_map(context)
    elif kind == "model_type":
        should = f"a mapping of {', '.join(_keys(path))}"
    else:
        # Messages for other types come from the recipe's own models.
        should = _TYPES.get(kind, mistake["msg"])
    return f"should be {should}, not {describe_value(value)}{_advice(kind, path, value)}"


def _advice(kind: str, path: YamlPath, value: object) -> str:
    if value is None:
        return NOTHING
    match kind, value:
        case "string_type" | "path_type", bool() | int() | float():
            advice = "quote it"
        case "string_type", {} if value == {}:
            advice = 'quote it: "{}"'
        case "tuple_type", _ if path == ("concepts",):
            advice = 'write - {target: "…", anchor: "…"} for each'
        case "tuple_type", str() | int() if not isinstance(value, bool):
            advice = f"write [{json.dumps(value, ensure_ascii=False)}]"
        case "model_type", str():
            return syntax_hint(value)
        case "int_type" | "float_type", str() if re.fullmatch(r"-?\d+(\.\d*)?", value):
            advice = "write it without quotes"
        case "float_type", str() if re.fullmatch(r"-?\d+,\d+", value):
            advice = "write it with a point"
        case _:
            return ""
    return f"; {advice}"


def _one_of(expected: str, value: object) -> str:
    """A message with the accepted words, from pydantic's list of them."""
    known = expected.replace("'", "")
    message = f"should be {known}, not {describe_value(value)}"
    if not isinstance(value, str):
        return message + (NOTHING if value is None else "")
    near = get_close_matches(value.lower(), known.replace(" or ", ", ").split(", "), n=1)
    if not near:
        return message
    return message + (
        "; write it without quotes" if near == [value] else f"; did you mean {near[0]}?"
    )


def _key_advice(path: YamlPath) -> str:
    if advice := syntax_hint(str(path[-1])):
        return advice
    near = _nearest(path)
    return f"; did you mean {near}?" if near else f"; known are {', '.join(_keys(path[:-1]))}"


def _nearest(path: YamlPath) -> str | None:
    *parents, key = path
    return next(iter(get_close_matches(str(key).lower(), _keys(tuple(parents)), n=1)), None)


def _keys(path: YamlPath) -> list[str]:
    model = _MODEL_AT[tuple(part for part in path if isinstance(part, str))]
    return list(model.model_fields)
