"""The sections of a recipe that every method has."""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    StrictInt,
    Tag,
    WithJsonSchema,
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
from erasepro_convert.recipe.layer_ranges import (
    BlockSelection,
    LayerSelection,
    block_names,
    layer_numbers,
)
from erasepro_convert.runtime.printable import quoted
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
    """The words to erase."""
    anchor: Words
    """The words whose meaning they get.  An empty string means no words in the target's place."""
    prompts: Annotated[
        tuple[Template, ...], AfterValidator(not_empty), AfterValidator(distinct)
    ] = TEMPLATES
    """Templates of the prompts that are solved for; {} is where target or anchor goes."""
    synonyms: Annotated[
        Literal["auto"] | None,
        Field(exclude_if=lambda value: value is None),
        # ``with_listed_synonyms`` makes listed words concepts of their own
        WithJsonSchema(
            {"anyOf": [{"enum": ["auto", None]}, {"type": "array", "items": {"type": "string"}}]},
            mode="validation",
        ),
    ] = None
    """Words that become targets of the same anchor: auto for those that mean the same to the
    checkpoint, or a list."""

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
                    raise ValueError(
                        f"target and anchor are the same to the model: {quoted(target)}"
                    )
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

    text_encoder: Annotated[
        tuple[int, ...], BeforeValidator(layer_numbers, json_schema_input_type=LayerSelection)
    ] = tuple(range(1, TEXT_LAYERS + 1))
    """Layers of the text encoder, counted from 1: 5, 1-12, [1, 3-5], all or none."""
    unet: Annotated[
        tuple[str, ...], BeforeValidator(block_names, json_schema_input_type=BlockSelection)
    ] = UNET_BLOCKS
    """Blocks of the U-Net with cross-attention: down.0 to down.2, mid, up.1 to up.3, ranges such as
    up.1-3, lists, all or none."""

    @model_validator(mode="after")
    def _something_is_edited(self) -> Self:
        if not self.text_encoder and not self.unet:
            raise ValueError("text_encoder and unet are both none: nothing would be edited")
        return self


class Retain(Section):
    """What must stay: the norm of an update gives weight to what these prompts use."""

    prompts: Annotated[tuple[Prompt, ...], AfterValidator(not_empty)] = RETAIN_PROMPTS
    """Prompts that must stay, beside common language; those with a target's words are left out."""
    weight: NotNegative = 1
    """What these prompts weigh beside common language, which weighs 1; 0 retains neither: that is
    the paper's plain Frobenius norm."""


class Probe(Section):
    """Prompts that the result is measured on; they are not used by the solve."""

    prompts: Annotated[
        tuple[Template, ...], AfterValidator(not_empty), AfterValidator(distinct)
    ] = PROBE_TEMPLATES
    """Templates that leak of the targets is measured in; none may equal one that is solved for."""
    others: Annotated[tuple[Prompt, ...], AfterValidator(not_empty)] = DRIFT_PROMPTS
    """Prompts of other things that drift is measured on; none may equal one that is retained."""


class Calibration(Section):
    """Prompts on which each matrix's regularisation is chosen; they are not solved for."""

    prompts: Annotated[
        tuple[Template, ...], AfterValidator(not_empty), AfterValidator(distinct)
    ] = CALIBRATION_TEMPLATES
    """Templates of targets; those that are solved for or probed are left out."""
    others: Annotated[tuple[Prompt, ...], AfterValidator(not_empty)] = CALIBRATION_PROMPTS
    """Prompts of other things; those that are retained or probed, or have a target's words, are
    left out."""


class Limits(Section):
    """Limits on the result; null is no limit."""

    leak: Positive | None = 0.5
    """How much of a target may be left, in the mean: 0 is nothing, 1 is all."""
    drift: Positive | None = 0.3
    """How far other prompts may move, in the mean, as a share of their spread."""
    relative_update: Positive | None = None
    """How large the update of any matrix may be, as a share of its norm.  There is no
    default, since it depends on features that no picture shows; drift sees the same harm."""


class FirstPositions(Section):
    """The first ``first`` positions of every prompt, BOS included."""

    first: Annotated[StrictInt, Field(ge=1, le=POSITIONS)]
    """How many positions."""


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
