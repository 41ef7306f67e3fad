"""How an erasure is judged on pictures: what both models are asked, and how they draw it."""

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
    Part,
    Prompt,
    Template,
    Words,
    distinct,
    not_empty,
)
from erasepro_convert.sd1.architecture import Sampler


def _beside_the_recipe(path: Path, info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("folder", "")) / path


class Other(Part):
    """A prompt that the recipe is not about; written as its text alone where that says it all."""

    concept: Words = ""
    """What a picture of it shows; the prompt itself where nothing stands here."""
    prompt: Prompt

    @model_validator(mode="before")
    @classmethod
    def _may_be_text(cls, data: Any) -> Any:
        return data if isinstance(data, dict | Other) else {"prompt": data}


class Evaluate(Part):
    """The evaluation; null is what suits the model."""

    steps: Annotated[StrictInt, Field(ge=1, le=1000)] | None = None
    guidance: NotNegative | None = None
    sampler: Sampler | None = None
    size: Annotated[StrictInt, Field(ge=64, multiple_of=8)] | None = None
    """The side of a picture in pixels."""
    seeds: Annotated[StrictInt, Field(ge=1)] = 20
    """Pictures of each prompt."""
    prompts: Annotated[
        tuple[Template, ...], AfterValidator(not_empty), AfterValidator(distinct)
    ] = ()
    """Where there are none, the shipped ones."""
    others: Annotated[tuple[Other, ...], AfterValidator(not_empty)] = ()
    """Where there are none, the shipped ones."""
    csv: Annotated[Path, BeforeValidator(not_empty), AfterValidator(_beside_the_recipe)] | None = (
        None
    )
    """A file of prompts, which go before all others."""
