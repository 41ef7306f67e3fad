"""A stress test: every attack on every concept, by text features and by pictures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from erasepro_convert import __version__
from erasepro_convert.attacks.budgets import Budget, budgets
from erasepro_convert.attacks.case import (
    NONSENSE,
    AttackCase,
    AttackContext,
    Distances,
    Effort,
    unchanged,
)
from erasepro_convert.attacks.completion import completion_cases
from erasepro_convert.attacks.finetune import finetune_cases
from erasepro_convert.attacks.gallery import Drawing, DrawnRates, Gallery
from erasepro_convert.attacks.lora import lora_cases
from erasepro_convert.attacks.merge import merge_cases
from erasepro_convert.attacks.model import LoadedModel, PromptSet
from erasepro_convert.attacks.names import Attack
from erasepro_convert.attacks.noise import noise_cases
from erasepro_convert.attacks.paraphrases import paraphrase_cases
from erasepro_convert.attacks.prefix import prefix_cases
from erasepro_convert.attacks.quantise import quantise_cases
from erasepro_convert.attacks.rece import rece_cases
from erasepro_convert.attacks.redrawing import image_to_image_cases, inpainting_cases
from erasepro_convert.attacks.swap_text_encoder import swap_cases
from erasepro_convert.attacks.target_distance import TargetDistances
from erasepro_convert.attacks.text_inversion import text_inversion_cases
from erasepro_convert.attacks.textual_inversion import inversion_cases
from erasepro_convert.attacks.word_attacks import (
    mma_cases,
    ring_a_bell_cases,
    unlearn_diff_cases,
)
from erasepro_convert.errors import CheckpointError
from erasepro_convert.evaluate.metrics.rates import prompt_count_warnings
from erasepro_convert.evaluate.output import estimate_cells
from erasepro_convert.evaluate.plan import EvalPrompt
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.runtime.software_versions import SoftwareVersions, library_versions

ATTACKS: Mapping[Attack, Callable[[AttackContext], Iterator[AttackCase]]] = {
    "swap-te": swap_cases,
    "prefix": prefix_cases,
    "tricks": paraphrase_cases,
    "text-inversion": text_inversion_cases,
    "ring-a-bell": ring_a_bell_cases,
    "mma": mma_cases,
    "unlearn-diff": unlearn_diff_cases,
    "rece": rece_cases,
    "ti": inversion_cases,
    "completion": completion_cases,
    "noise": noise_cases,
    "img2img": image_to_image_cases,
    "inpaint": inpainting_cases,
    "merge": merge_cases,
    "quantise": quantise_cases,
    "lora": lora_cases,
    "finetune": finetune_cases,
}

LIBRARIES = (
    "diffusers", "numpy", "pillow", "safetensors", "tokenizers", "torch", "transformers",
)  # fmt: skip
"""What the figures depend on, beside this package."""


@dataclass(frozen=True)
class AttackedPrompts:
    """The prompts of one concept: those that distances are measured on, and those drawn."""

    measured: tuple[str, ...]
    drawn: tuple[str, ...]


@dataclass(frozen=True)
class StressResult:
    """The result of a stress test.

    ``concepts`` maps each target of the recipe to its anchor, ``prompts`` each that was attacked to
    its prompts; ``warnings`` say why others were left out.  ``attacks`` were run, each within its
    budget; ``not_run`` are the others that there are.  ``drawing`` is None where nothing was drawn;
    its pictures have the seeds 0 to ``seeds`` - 1.  ``text_encoders`` has the digest of each other
    model whose text encoder was tried, by file name.
    """

    tool: str
    libraries: SoftwareVersions
    recipe: str
    recipe_sha256: str
    original_sha256: str
    erased_sha256: str
    concepts: Mapping[str, str]
    prompts: Mapping[str, AttackedPrompts]
    attacks: tuple[Attack, ...]
    not_run: tuple[Attack, ...]
    budgets: Mapping[Attack, Budget]
    text_encoders: Mapping[str, str]
    effort: Effort
    drawing: Drawing | None
    rows: tuple["StressRow", ...]
    warnings: tuple[str, ...]

    def to_data(self) -> dict[str, object]:
        """Return all of it, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class StressRow:
    """A line of the table: one attack on one concept.

    ``attack`` is "none" in the first line of a concept.  ``distances`` say how near text features
    came to the target's.  ``drawn`` is None where no pictures were asked for.
    """

    concept: str
    attack: str
    how: str
    distances: Distances | None
    drawn: DrawnRates | None

    def cells(self) -> dict[str, object]:
        """Return the cells of a line of CSV: each rate is followed by the ends of its interval."""
        cells: dict[str, object] = {"concept": self.concept, "attack": self.attack, "how": self.how}
        for name in ("erased", "original", "control"):
            cells[f"distance_{name}"] = getattr(self.distances, name, None)
        if not self.drawn:
            return cells
        for name, value in vars(self.drawn).items():
            if name not in ("original", "erased", "recovered", "control"):
                cells[name] = value
                continue
            cells[name], cells[f"{name}_low"], cells[f"{name}_high"] = estimate_cells(value)
        return cells


def stress(
    recipe: Recipe,
    original: LoadedModel,
    erased: LoadedModel,
    planned: Sequence[EvalPrompt],
    attacks: Sequence[Attack],
    gallery: Gallery | None,
    effort: Effort,
    progress: Progress,
    text_encoders: Sequence[LoadedModel] = (),
) -> StressResult:
    """Attack the erased model with each attack on each concept of a recipe.

    ``gallery`` draws with those of the planned prompts that name a target, and judges; without it
    attacks are measured on text features alone.  ``text_encoders`` are other models, of other file
    names, whose text encoders ``swap-te`` puts in the erased one's place.

    Raises CheckpointError for a file that makes no pictures and for a text encoder of another
    width, RecipeError for a concept that CLIP does not read.
    """
    for model in text_encoders:
        _require_same_width(model, original)
    rows: list[StressRow] = []
    warnings: list[str] = []
    attacked: dict[str, AttackedPrompts] = {}
    for concept in recipe.concepts:
        target = concept.target
        prompts: tuple[str, ...] = ()
        pictures: tuple[Path, ...] = ()
        if gallery:
            prompts = tuple(
                prompt.prompt
                for prompt in planned
                if prompt.role == "target"
                and prompt.concept == target
                and target.lower() in prompt.prompt.lower()
            )
            if not prompts or not gallery.detector.knows(target):
                why = (
                    "no prompt names it"
                    if gallery.detector.knows(target)
                    else f"the {gallery.detector.name} can't see it"
                )
                warnings.append(f"{target} was left out: {why}.")
                continue
            warnings += prompt_count_warnings(len(prompts))
            plain = PromptSet(original.variant, {prompt: prompt for prompt in prompts})
            pictures = tuple(chain.from_iterable(gallery.renderer.paths(plain).values()))
        context = AttackContext(
            original, erased, target, prompts, pictures, gallery is not None,
            TargetDistances(
                original.weights, concept, recipe.probe.prompts,
                recipe.without_targets(recipe.probe.others),
            ),
            effort, progress,
            tuple(prompt.prompt for prompt in planned if prompt.role == "other"),
            tuple(text_encoders),
        )  # fmt: skip
        attacked[target] = AttackedPrompts(context.distances.prompts, prompts)
        rows += _rows(context, attacks, gallery)
    allowed = budgets(effort, draws=gallery is not None)
    return StressResult(
        tool=__version__,
        libraries=library_versions(LIBRARIES),
        recipe=recipe.name,
        recipe_sha256=recipe.digest,
        original_sha256=original.digest,
        erased_sha256=erased.digest,
        concepts={concept.target: concept.anchor for concept in recipe.concepts},
        prompts=attacked,
        attacks=tuple(attacks),
        not_run=tuple(attack for attack in ATTACKS if attack not in attacks),
        budgets={attack: allowed[attack] for attack in attacks},
        text_encoders={model.path.name: model.digest for model in text_encoders},
        effort=effort,
        drawing=gallery.described if gallery else None,
        rows=tuple(rows),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _require_same_width(model: LoadedModel, original: LoadedModel) -> None:
    found, wanted = (m.checkpoint.layout.widths.text for m in (model, original))
    if found != wanted:
        raise CheckpointError(
            f"{model.path}: its text encoder's features are {found} wide, the model's {wanted}"
        )


def _rows(
    context: AttackContext, attacks: Sequence[Attack], gallery: Gallery | None
) -> list[StressRow]:
    """Return a line for the models without an attack, then one for each case."""
    unattacked = context.prompt_case("none", "", unchanged, context.with_words(NONSENSE))
    with context.original.threads():
        cases = [unattacked, *chain.from_iterable(ATTACKS[attack](context) for attack in attacks)]
    drawn: list[DrawnRates | None] = [None] * len(cases)
    if gallery:
        drawn = [*gallery.judge(context, cases)]
    return [
        StressRow(context.target, case.attack, case.how, case.distances, rates)
        for case, rates in zip(cases, drawn, strict=True)
    ]
