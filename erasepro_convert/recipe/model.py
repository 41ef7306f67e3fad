"""The recipe: what to erase, where, and how.  Defaults are part of it, and so of its digest."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictFloat,
    StrictInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.errors import RecipeError
from erasepro_convert.recipe.evaluation import Evaluate
from erasepro_convert.recipe.fields import Line, Name, Positive, Section, distinct, not_empty
from erasepro_convert.recipe.held_out import shared_prompt, without_targets
from erasepro_convert.recipe.methods import METHODS, TRAINED, Key, Method
from erasepro_convert.recipe.release import Release
from erasepro_convert.recipe.sections import (
    Calibration,
    ClipSkip,
    Concept,
    Layers,
    Limits,
    Probe,
    Retain,
    TokenSelection,
    with_listed_synonyms,
)
from erasepro_convert.recipe.training import Training
from erasepro_convert.runtime.hashing import json_digest
from erasepro_convert.runtime.printable import quoted
from erasepro_convert.sd1.keys import UNET_BLOCKS


def _distinct_pairs(concepts: tuple[Concept, ...]) -> tuple[Concept, ...]:
    """Refuse a pair that is repeated, also in another spelling."""
    seen: set[object] = set()
    for concept in concepts:
        tokens = tokenize(concept.target).ids, tokenize(concept.anchor).ids
        if tokens in seen:
            raise ValueError(
                f"{quoted(concept.target)} → {quoted(concept.anchor)} stands here twice"
            )
        seen.add(tokens)
    return concepts


def _no_boolean(version: Any) -> Any:
    """Turn true into text, which is refused, since True equals 1 in Python."""
    return str(version).lower() if isinstance(version, bool) else version


def _method_of(info: ValidationInfo) -> Method | None:
    """The recipe's method while its other keys are checked; None where the method is a mistake."""
    return METHODS.get(info.data.get("method", ""))


if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[tuple(METHODS)]


class Recipe(Section):
    """Everything that determines an erasure, given a checkpoint."""

    version: Annotated[Literal[1], BeforeValidator(_no_boolean)]
    """The version of this format."""
    name: Name
    """Stands in the output's metadata; by default the file's name."""
    about: Annotated[Line, Field(exclude=True)] = ""
    """One line on what the recipe is for.  It is no part of the erasure: neither the digest nor the
    manifest has it."""
    method: MethodName = "erasepro"
    """How the weights are found: solved in closed form, or trained."""
    concepts: Annotated[
        tuple[Concept, ...], AfterValidator(not_empty), AfterValidator(_distinct_pairs)
    ]
    """What is erased, and what it becomes; all concepts are solved together."""
    layers: Layers = Layers()
    """Which layers are edited."""
    tokens: TokenSelection = "padded"
    """Which positions of a target prompt are solved for: those of the prompt and its padding, of
    the prompt, of all 77, of the target's last token, of EOS, or the first few."""
    pairing: Literal["word", "position"] = "word"
    """Which position of the anchor prompt a position of the target prompt is sent to."""
    strength: Positive = 1
    """How much a target that stays recognisable weighs against others that change, where no
    tolerance is given.  Above 1 more of the target goes and others change more."""
    tolerance: Annotated[StrictFloat | StrictInt, Field(ge=0, lt=1)] | None = None
    """Residual allowed in a matrix, as a share of what has to change; 0 is the paper's exact
    constraint (Eq. 5).  Null calibrates each matrix."""
    retain: Retain = Retain()
    """What must stay."""
    training: Annotated[Training | None, Field(exclude_if=lambda value: value is None)] = None
    """Settings of a method that is trained; the closed forms have none."""
    text_encoders: Annotated[
        tuple[Literal["edited", "stock"], ...],
        AfterValidator(not_empty),
        AfterValidator(distinct),
    ] = ("edited", "stock")
    """The text encoders that the edited cross-attention holds for."""
    calibration: Annotated[Calibration, Field(validate_default=True)] = Calibration()
    """What each matrix is calibrated on."""
    probe: Annotated[Probe, Field(validate_default=True)] = Probe()
    """What the result is measured on."""
    limits: Limits = Limits()
    """What the result must keep to, or it is not written."""
    clip_skip: Annotated[
        tuple[ClipSkip, ...], AfterValidator(not_empty), AfterValidator(distinct)
    ] = (1,)
    """The ways of feeding the U-Net that the edit holds for: 1 is the last text layer, 2 the one
    before."""
    release: Annotated[Release | None, Field(exclude_if=lambda value: value is None)] = None
    """What whoever publishes the result says of it.  It changes no weight, but the output's
    metadata."""
    evaluate: Annotated[Evaluate, Field(exclude=True)] = Evaluate()
    """How an erasure is judged on pictures.  It is no part of the erasure: neither the digest nor
    the manifest has it."""

    @model_validator(mode="before")
    @classmethod
    def _methods_have_their_own_defaults(cls, data: Any) -> Any:
        name = data.get("method") if isinstance(data, dict) else None
        method = METHODS.get(name) if isinstance(name, str) else None
        return method.with_defaults(data) if method else data

    @field_validator("concepts", mode="before")
    @classmethod
    def _synonyms_are_targets(cls, value: Any) -> Any:
        return with_listed_synonyms(value)

    @field_validator("layers", "strength", "tolerance", "retain")
    @classmethod
    def _the_method_has_such_a_part(cls, value: Any, info: ValidationInfo) -> Any:
        method = _method_of(info)
        if method is None:
            return value
        key: Key
        match value:
            case Layers():
                if value.text_encoder and "layers.text_encoder" not in method.keys:
                    raise ValueError(
                        f"{method.name} edits the U-Net only: set text_encoder to none"
                    )
                return value
            case Retain():
                key, is_set = "retain.weight", bool(value.weight)
            case _ if info.field_name == "strength":
                key, is_set = "tolerance", value != 1
            case _:
                key, is_set = "tolerance", bool(value)
        if is_set and key not in method.keys:
            why = "is trained" if method.is_trained else "has a trade-off of its own"
            raise ValueError(f"{method.name} {why}: leave this out")
        return value

    @field_validator("tolerance")
    @classmethod
    def _a_tolerance_has_no_strength(cls, value: float | None, info: ValidationInfo) -> Any:
        method = _method_of(info)
        is_double = value is not None and info.data.get("strength", 1) != 1
        if is_double and method and "tolerance" in method.keys:
            raise ValueError("strength is for calibrated matrices: leave out one of the two")
        return value

    @field_validator("training", mode="before")
    @classmethod
    def _closed_forms_have_no_training(cls, value: Any, info: ValidationInfo) -> Any:
        if "method" not in info.data:
            return None  # the method is a mistake, and with it the defaults of training are unknown
        method = info.data["method"]
        if value is not None and not METHODS[method].is_trained:
            raise ValueError(f"{method} is a closed form: only {', '.join(TRAINED)} are trained")
        return value

    @field_validator("training")
    @classmethod
    def _training_goes_with_its_method(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None:
            return value
        layers = info.data.get("layers")
        method = _method_of(info)
        if value.guidance is not None and method and "training.guidance" not in method.keys:
            raise ValueError(f"guidance is ESD's: {method.name} has none")
        whole = isinstance(layers, Layers) and layers.unet == UNET_BLOCKS
        if value.parameters == "not-cross-attention" and not whole:
            raise ValueError("what is not attention is in no block: set layers.unet to all")
        return value

    @field_validator("evaluate")
    @classmethod
    def _pictures_are_of_held_out_prompts(cls, value: Evaluate, info: ValidationInfo) -> Evaluate:
        """Refuse prompts that were solved for, and prompts that the model cannot read."""
        for concept in info.data.get("concepts", ()):
            try:
                shared = shared_prompt(concept, value.prompts)
            except RecipeError as error:
                raise ValueError(str(error)) from error
            if shared is not None:
                raise ValueError(f"evaluate.prompts and prompts share {quoted(shared)}")
        return value

    @field_validator("retain", "probe", "evaluate")
    @classmethod
    def _some_prompts_have_no_target(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse prompts of which each has a target's words, since such prompts are left out."""
        match value:
            case Retain():
                key, prompts = "prompts", value.prompts if value.weight else ()
            case Probe():
                key, prompts = "others", value.others
            case _:
                key, prompts = "others", tuple(other.prompt for other in value.others)
        if prompts and not without_targets(info.data.get("concepts", ()), prompts):
            raise ValueError(
                f"each of {info.field_name}.{key} contains a target's words, so all are left out: "
                "add prompts of something else"
            )
        return value

    @model_validator(mode="after")
    def _probe_is_held_out(self) -> Self:
        """Refuse to measure on prompts that were solved for or retained."""
        for concept in self.concepts:
            if (shared := shared_prompt(concept, self.probe.prompts)) is not None:
                raise ValueError(f"probe.prompts and prompts share {quoted(shared)}")
        retained = {tokenize(prompt).ids for prompt in self.retain.prompts}
        for prompt in self.probe.others:
            if tokenize(prompt).ids in retained:
                raise ValueError(f"probe.others and retain.prompts share {quoted(prompt)}")
        return self

    @model_validator(mode="after")
    def _calibration_is_held_out(self) -> Self:
        """Refuse a recipe that leaves nothing to calibrate on."""
        for concept in self.concepts:
            if not self.calibration_templates(concept):
                raise ValueError(
                    f"{quoted(concept.target)} is solved for or probed in all of "
                    "calibration.prompts: add other ones"
                )
        if not self.calibration_others:
            raise ValueError(
                "all of calibration.others are retained or probed, or contain a target's words: "
                "add other ones"
            )
        return self

    def calibration_templates(self, concept: Concept) -> tuple[str, ...]:
        """The calibration's templates that a concept is neither solved nor probed in."""
        elsewhere = (*concept.prompts, *self.probe.prompts)
        taken = {tokenize(target).ids for target, _ in concept.prompt_pairs(elsewhere)}
        pairs = concept.prompt_pairs(self.calibration.prompts)
        return tuple(
            template
            for template, (target, _) in zip(self.calibration.prompts, pairs, strict=True)
            if tokenize(target).ids not in taken
        )

    @property
    def calibration_others(self) -> tuple[str, ...]:
        """The calibration's other prompts that are neither retained nor probed."""
        taken = {tokenize(prompt).ids for prompt in (*self.retain.prompts, *self.probe.others)}
        others = self.without_targets(self.calibration.others)
        return tuple(prompt for prompt in others if tokenize(prompt).ids not in taken)

    @property
    def asks_for_synonyms(self) -> bool:
        """Whether synonyms of a target are to be found in the checkpoint."""
        return any(concept.synonyms == "auto" for concept in self.concepts)

    def without_targets(self, prompts: tuple[str, ...]) -> tuple[str, ...]:
        """The prompts that contain no target's words (compared as tokens)."""
        return without_targets(self.concepts, prompts)

    def changed(self, **changes: Any) -> "Recipe":
        """A copy of this recipe with other values, which is checked like any recipe."""
        unrecorded = {"about": self.about, "evaluate": self.evaluate}
        return Recipe.model_validate({**self.model_dump(), **unrecorded, **changes})

    def to_yaml(self) -> str:
        """The recipe with all defaults filled in; read again, it has the same digest."""
        return yaml.safe_dump(
            self.model_dump(mode="json"), sort_keys=False, width=90, allow_unicode=True
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the recipe with all defaults filled in, as canonical JSON."""
        return json_digest(self.model_dump(mode="json"))
