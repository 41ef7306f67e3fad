"""The fields of a recipe's sections: words, templates and prompts, which are checked when read."""

from collections import Counter
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    StringConstraints,
)

from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.errors import RecipeError
from erasepro_convert.runtime.printable import printable, quoted

PLACEHOLDER = "{}"
VALUE_LIMIT = 60
"""The most characters of a value in a message."""


class Section(BaseModel):
    """A frozen section of a recipe, which refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def describe_value(value: object) -> str:
    """A value in a recipe as text for messages, cut short."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case str():
            return quoted(value, VALUE_LIMIT)
    return printable(str(value), VALUE_LIMIT)


def not_empty(value: Any) -> Any:
    """Refuse an empty value."""
    if not value:
        raise ValueError("must not be empty")
    return value


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse values that are repeated."""
    for value, count in Counter(values).items():
        if count > 1:
            raise ValueError(f"{describe_value(value)} stands here twice")
    return values


def _one_placeholder(prompt: str) -> str:
    if prompt.count(PLACEHOLDER) != 1:
        raise ValueError(
            f"{quoted(prompt)} must contain {PLACEHOLDER} once: the concept goes there"
        )
    return prompt


def _readable(prompt: str) -> str:
    try:
        tokenize(prompt)
    except RecipeError as error:
        raise ValueError(str(error)) from error
    return prompt


def _one_line(text: str) -> str:
    if len(text.splitlines()) > 1:
        raise ValueError("should be one line")
    return text


Words = Annotated[StrictStr, StringConstraints(strip_whitespace=True)]
Name = Annotated[Words, AfterValidator(not_empty)]
Line = Annotated[Words, AfterValidator(_one_line)]
Template = Annotated[StrictStr, AfterValidator(_one_placeholder)]
Prompt = Annotated[StrictStr, AfterValidator(_readable)]
Positive = Annotated[StrictFloat | StrictInt, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[StrictFloat | StrictInt, Field(ge=0, allow_inf_nan=False)]
