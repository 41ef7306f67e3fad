"""What parts of a recipe are made of: words, templates and prompts, checked when read."""

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

PLACEHOLDER = "{}"
SHOWN = 60
"""Characters of a value in a message."""


class Part(BaseModel):
    """A frozen piece of a recipe that knows all its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def shown(value: object) -> str:
    """A value as a recipe has it, cut short, for messages."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case list():
            return "a list"
        case dict():
            return "a mapping"
    text = repr(value)
    return text[: SHOWN - 1] + "…" if len(text) > SHOWN else text


def not_empty(value: Any) -> Any:
    """Refuse what has nothing in it."""
    if not value:
        raise ValueError("must not be empty")
    return value


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse what stands there twice."""
    for value, count in Counter(values).items():
        if count > 1:
            raise ValueError(f"{value!r} stands here twice")
    return values


def _one_placeholder(prompt: str) -> str:
    if prompt.count(PLACEHOLDER) != 1:
        raise ValueError(f"{prompt!r} must contain {PLACEHOLDER} once: the concept goes there")
    return prompt


def _readable(prompt: str) -> str:
    try:
        tokenize(prompt)
    except RecipeError as error:
        raise ValueError(str(error)) from error
    return prompt


Words = Annotated[StrictStr, StringConstraints(strip_whitespace=True)]
Name = Annotated[Words, AfterValidator(not_empty)]
Template = Annotated[StrictStr, AfterValidator(_one_placeholder)]
Prompt = Annotated[StrictStr, AfterValidator(_readable)]
Positive = Annotated[StrictFloat | StrictInt, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[StrictFloat | StrictInt, Field(ge=0, allow_inf_nan=False)]
