"""The sections of a recipe that every method has."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    StrictInt,
    Tag,
    field_validator,
    model_validator,
)

from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.errors import RecipeError
from erasepro_convert.recipe.default_prompts import (
    CALIBRATION_PROMPTS,
    CALIBRATION_TEMPLATES,
    DRIFT_PROMPTS,
    PROBE_TEMPLATES,
    RETAIN_PROMPTS,
    TEMPLATES,
)
from erasepro_convert.recipe.fields import (
    PLACEHOLDER,
    Name,
    NotNegative,
    Positive,
    Prompt,
    Section,
    Template,
    Words,
    distinct,
    not_empty,
)
from erasepro_convert.recipe.layer_ranges import block_names, layer_numbers
from erasepro_convert.sd1.keys import POSITIONS, TEXT_LAYERS, UNET_BLOCKS


def with_listed_synonyms(concepts: Any) -> Any:
    """Add a concept at the end for each synonym that a concept of a recipe's data lists.

    What is no list of words is left for the checks to refuse.
    """
    if not isinstance(concepts, list):
        return concepts
    kept, added = [], []
    for concept in concepts:
        words = concept.get("synonyms") if isinstance(concept, dict) else None
        if not isinstance(words, list):
            kept.append(concept)
            continue
        rest = {key: value for key, value in concept.items() if key != "synonyms"}
        kept.append(rest)
        added += [{**rest, "target": word} for word in words]
    return kept + added


class Concept(Section):
    """One concept pair: ``target`` is erased and becomes ``anchor``."""

    target: Name
    anchor: Words
    """An empty string means no words in the target's place."""
    prompts: Annotated[
        tuple[Template, ...], AfterValidator(not_empty), AfterValidator(distinct)
    ] = TEMPLATES
    synonyms: Annotated[Literal["auto"] | None, Field(exclude_if=lambda value: value is None)] = (
        None
    )
    """auto: words that mean the same to the checkpoint become targets of the same anchor.  A recipe
    may list words instead, which ``with_listed_synonyms`` makes concepts of their own."""

    @field_validator("anchor", mode="before")
    @classmethod
    def _no_words_are_written(cls, value: Any) -> Any:
        if value is None:
            raise ValueError('should be text, not nothing; write "" if you mean no words')
        return value

    @model_validator(mode="after")
    def _model_can_read_it(self) -> Self:
        """Check the prompts here, where the line in the recipe is known."""
        try:
            for target, anchor in self.prompt_pairs():
                if tokenize(target).ids == tokenize(anchor).ids:
                    raise ValueError(f"target and anchor are the same to the model: {target!r}")
        except RecipeError as error:
            raise ValueError(str(error)) from error
        return self

    def prompt_pairs(self, templates: tuple[str, ...] | None = None) -> tuple[tuple[str, str], ...]:
        """The target prompt and anchor prompt for each template (None: the concept's own).

        An empty anchor leaves the template without the concept's words; "{}" becomes the empty
        prompt (the paper's App. A.2).
        """
        return tuple(
            (
                template.replace(PLACEHOLDER, self.target),
                " ".join(template.replace(PLACEHOLDER, self.anchor).split()),
            )
            for template in (self.prompts if templates is None else templates)
        )


class Layers(Section):
    """Which layers are edited: text-encoder layers by number, U-Net blocks by name."""

    text_encoder: Annotated[tuple[int, ...], BeforeValidator(layer_numbers)] = tuple(
        range(1, TEXT_LAYERS + 1)
    )
    unet: Annotated[tuple[str, ...], BeforeValidator(block_names)] = UNET_BLOCKS

    @model_validator(mode="after")
    def _something_is_edited(self) -> Self:
        if not self.text_encoder and not self.unet:
            raise ValueError("text_encoder and unet are both none: nothing would be edited")
        return self


class Retain(Section):
    """What must stay: the norm of an update gives weight to what these prompts use."""

    prompts: Annotated[tuple[Prompt, ...], AfterValidator(not_empty)] = RETAIN_PROMPTS
    weight: NotNegative = 1
    """What these prompts weigh beside common language, which weighs 1; 0 retains neither: that is
    the paper's plain Frobenius norm."""


class Probe(Section):
    """Prompts that the result is measured on; they are not used by the solve."""

    prompts: Annotated[
        tuple[Template, ...], AfterValidator(not_empty), AfterValidator(distinct)
    ] = PROBE_TEMPLATES
    others: Annotated[tuple[Prompt, ...], AfterValidator(not_empty)] = DRIFT_PROMPTS


class Calibration(Section):
    """Prompts on which each matrix's regularisation is chosen; they are not solved for."""

    prompts: Annotated[
        tuple[Template, ...], AfterValidator(not_empty), AfterValidator(distinct)
    ] = CALIBRATION_TEMPLATES
    others: Annotated[tuple[Prompt, ...], AfterValidator(not_empty)] = CALIBRATION_PROMPTS


class Limits(Section):
    """Limits on the result; null is no limit."""

    leak: Positive | None = 0.5
    drift: Positive | None = 0.3
    relative_update: Positive | None = None
    """No default, since it depends on features that no picture shows; drift sees the same harm."""


class FirstPositions(Section):
    """The first ``first`` positions of every prompt, BOS included."""

    first: Annotated[StrictInt, Field(ge=1, le=POSITIONS)]


def _tokens_kind(value: object) -> str | None:
    if isinstance(value, dict | FirstPositions):
        return "first"
    return "name" if isinstance(value, str) and value in get_args(NamedTokens) else None


NamedTokens = Literal["padded", "prompt", "all", "last", "eos"]
TokenSelection = Annotated[
    Annotated[NamedTokens, Tag("name")] | Annotated[FirstPositions, Tag("first")],
    Discriminator(
        _tokens_kind,
        custom_error_type="tokens",
        custom_error_message="padded, prompt, all, last, eos or {first: 8}",
    ),
]

ClipSkip = Annotated[StrictInt, Field(ge=1, le=TEXT_LAYERS)]
