"""The recipe's section on evaluation with images: prompts, seeds and sampler settings."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictInt,
    ValidationInfo,
    model_validator,
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
    """A prompt without targets.  A recipe may write it as the prompt's text alone."""

    concept: Words = ""
    """What an image of the prompt shows; by default the prompt itself."""
    prompt: Prompt

    @model_validator(mode="before")
    @classmethod
    def _may_be_text(cls, data: Any) -> Any:
        return data if isinstance(data, dict | Other) else {"prompt": data}


class Evaluate(Section):
    """Settings of the evaluation.  For null the model's own settings are used."""

    steps: Annotated[StrictInt, Field(ge=1, le=1000)] | None = None
    guidance: NotNegative | None = None
    sampler: Sampler | None = None
    size: Annotated[StrictInt, Field(ge=64, multiple_of=8)] | None = None
    """The side of an image in pixels."""
    seeds: Annotated[StrictInt, Field(ge=1)] = 20
    """The number of images of each prompt."""
    prompts: Annotated[
        tuple[Template, ...], AfterValidator(not_empty), AfterValidator(distinct)
    ] = ()
    """If empty, the shipped prompts are used."""
    others: Annotated[tuple[Other, ...], AfterValidator(not_empty)] = ()
    """If empty, the shipped prompts are used."""
    csv: Annotated[Path, BeforeValidator(not_empty), AfterValidator(_relative_to_recipe)] | None = (
        None
    )
    """A CSV file of prompts, which take precedence over all others."""
