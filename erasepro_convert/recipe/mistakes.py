"""What is wrong with a recipe's values, in words that say what to write instead."""

import json
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from erasepro_convert.recipe.evaluation import Evaluate, Other
from erasepro_convert.recipe.fields import shown
from erasepro_convert.recipe.model import Recipe
from erasepro_convert.recipe.sections import Concept, First, Layers, Limits, Probe, Retain
from erasepro_convert.recipe.slips import hint
from erasepro_convert.recipe.training import Training
from erasepro_convert.recipe.yaml_document import Document, YamlPath

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

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

_BOUNDS = {
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "multiple_of": "a multiple of {multiple_of:g}",
    "finite_number": "a finite number",
}
"""What a number should be, by the kind of mistake."""

_KINDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "path_type": "text",
    "tuple_type": "a list",
}
"""What a value should be."""

NOTHING = " (~, null and an empty place all are)"


def explain(error: ValidationError, document: Document) -> list[tuple[YamlPath, str]]:
    """Each mistake once, by the place where it stands, in the order of lines."""
    found = [(_place(document, mistake["loc"]), mistake) for mistake in error.errors()]
    words = dict.fromkeys(
        (place, _words(place, mistake))
        for place, mistake in found
        if not _follows(place, mistake, found)
    )
    return sorted(words, key=lambda mistake: document.lines[mistake[0]])


def _place(document: Document, loc: tuple[str | int, ...]) -> YamlPath:
    """The part of a pydantic location that exists in the document (it adds tags of its own)."""
    place: YamlPath = ()
    for part in loc:
        if (*place, part) in document.lines:
            place = (*place, part)
    return place


def _follows(
    place: YamlPath, mistake: "ErrorDetails", found: list[tuple[YamlPath, "ErrorDetails"]]
) -> bool:
    """Whether a mistake only follows from another one, which is told."""
    match mistake["type"]:
        case "default_factory_not_called":
            return True
        case "int_type":  # no whole number where any number is good
            return any(there == place and other["type"] == "float_type" for there, other in found)
        case "missing":  # it is there, misspelt
            return any(
                other["type"] == "extra_forbidden"
                and there[:-1] == place
                and _nearest(there) == mistake["loc"][-1]
                for there, other in found
            )
    return False


def _words(place: YamlPath, mistake: "ErrorDetails") -> str:
    kind, value, context = mistake["type"], mistake["input"], mistake.get("ctx", {})
    match kind:
        case "extra_forbidden":
            return f"unknown key{_unknown(place)}"
        case "missing":
            return f"{mistake['loc'][-1]} is missing"
        case "value_error":
            return str(context["error"])
        case "literal_error":
            return _one_of(str(context["expected"]), value)
    if kind in _BOUNDS:
        should = _BOUNDS[kind].format_map(context)
    elif kind == "model_type":
        should = f"a mapping of {', '.join(_keys(place))}"
    else:
        should = _KINDS.get(kind, mistake["msg"])  # any other is in words of our own
    return f"should be {should}, not {shown(value)}{_advice(kind, place, value)}"


def _advice(kind: str, place: YamlPath, value: object) -> str:
    if value is None:
        return NOTHING
    match kind, value:
        case "string_type" | "path_type", bool() | int() | float():
            advice = "quote it"
        case "string_type", {} if value == {}:
            advice = 'quote it: "{}"'
        case "tuple_type", _ if place == ("concepts",):
            advice = 'write - {target: "…", anchor: "…"} for each'
        case "tuple_type", str() | int() if not isinstance(value, bool):
            advice = f"write [{json.dumps(value, ensure_ascii=False)}]"
        case "model_type", str():
            return hint(value)
        case "int_type" | "float_type", str() if re.fullmatch(r"-?\d+(\.\d*)?", value):
            advice = "write it without quotes"
        case "float_type", str() if re.fullmatch(r"-?\d+,\d+", value):
            advice = "write it with a point"
        case _:
            return ""
    return f"; {advice}"


def _one_of(expected: str, value: object) -> str:
    """Which words there are, from pydantic's list of them."""
    known = expected.replace("'", "")
    told = f"should be {known}, not {shown(value)}"
    if not isinstance(value, str):
        return told + (NOTHING if value is None else "")
    near = get_close_matches(value.lower(), known.replace(" or ", ", ").split(", "), n=1)
    if not near:
        return told
    return told + ("; write it without quotes" if near == [value] else f"; did you mean {near[0]}?")


def _unknown(place: YamlPath) -> str:
    if advice := hint(str(place[-1])):
        return advice
    near = _nearest(place)
    return f"; did you mean {near}?" if near else f"; known are {', '.join(_keys(place[:-1]))}"


def _nearest(place: YamlPath) -> str | None:
    *parents, key = place
    return next(iter(get_close_matches(str(key).lower(), _keys(tuple(parents)), n=1)), None)


def _keys(place: YamlPath) -> list[str]:
    model = _MODEL_AT[tuple(part for part in place if isinstance(part, str))]
    return list(model.model_fields)
