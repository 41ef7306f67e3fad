"""The recipe's section on evaluation with images: prompts, seeds and sampler settings."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictInt,
    ValidationInfo,
)

from erasepro_convert.recipe.fields import (
    NotNegative,
    Prompt,
    Section,
    Template,
    Words,
    distinct,
    not_empty,
)
from erasepro_convert.sd1.architecture import Sampler


def _relative_to_recipe(path: Path, info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("folder", "")) / path


class Other(Section):
    """A prompt without targets."""

    concept: Words = ""
    """What an image of the prompt shows; by default the prompt itself."""
    prompt: Prompt
    """The prompt's text."""


def _may_be_text(data: Any) -> Any:
    return data if isinstance(data, dict | Other) else {"prompt": data}


class Evaluate(Section):
    """Settings of the evaluation.  For null the model's own settings are used."""

    steps: Annotated[StrictInt, Field(ge=1, le=1000)] | None = None
    """Denoising steps of a picture."""
    guidance: NotNegative | None = None
    """The guidance scale."""
    sampler: Sampler | None = None
    """The sampler."""
    size: Annotated[StrictInt, Field(ge=64, multiple_of=8)] | None = None
    """The side of an image in pixels."""
    seeds: Annotated[StrictInt, Field(ge=1)] = 20
    """The number of images of each prompt."""
    prompts: Annotated[
        tuple[Template, ...], AfterValidator(not_empty), AfterValidator(distinct)
    ] = ()
    """Templates, each with {} where target or anchor goes; if empty, the shipped prompts are
    used."""
    others: Annotated[
        tuple[
            Annotated[Other, BeforeValidator(_may_be_text, json_schema_input_type=Prompt | Other)],
            ...,
        ],
        AfterValidator(not_empty),
    ] = ()
    """Prompts that the recipe is not about, as text or with what a picture of them shows; if empty,
    the shipped prompts are used."""
    csv: Annotated[Path, BeforeValidator(not_empty), AfterValidator(_relative_to_recipe)] | None = (
        None
    )
    """A CSV file of prompts, which take precedence over all others."""
