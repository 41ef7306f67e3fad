"""A stress test: every attack on every concept is drawn and judged beside the original model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain

from erasepro_convert import __version__
from erasepro_convert.attacks.case import NONSENSE, Attack, AttackCase, AttackContext
from erasepro_convert.attacks.completion import completion_cases
from erasepro_convert.attacks.control_concept import draw_control_pictures
from erasepro_convert.attacks.detector import ConceptDetector, nearest_group
from erasepro_convert.attacks.image_renderer import ImageRenderer
from erasepro_convert.attacks.model import LoadedModel, PromptSet
from erasepro_convert.attacks.noise import noise_cases
from erasepro_convert.attacks.paraphrases import paraphrase_cases
from erasepro_convert.attacks.prefix import prefix_cases
from erasepro_convert.attacks.recovery import recovery_ratio
from erasepro_convert.attacks.redrawing import image_to_image_cases, inpainting_cases
from erasepro_convert.attacks.swap_text_encoder import swap_cases
from erasepro_convert.attacks.textual_inversion import CONTROL_PICTURES, inversion_cases
from erasepro_convert.evaluate.image_store import ImageStore, Pixels, Settings, load_pixels
from erasepro_convert.evaluate.metrics.rates import prompt_count_warnings, rate
from erasepro_convert.evaluate.plan import EvalPrompt
from erasepro_convert.evaluate.results import Estimate
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.progress import Progress

ATTACKS: Mapping[Attack, Callable[[AttackContext], Iterator[AttackCase]]] = {
    "swap-te": swap_cases,
    "prefix": prefix_cases,
    "tricks": paraphrase_cases,
    "ti": inversion_cases,
    "completion": completion_cases,
    "noise": noise_cases,
    "img2img": image_to_image_cases,
    "inpaint": inpainting_cases,
}


@dataclass(frozen=True)
class Effort:
    """How hard attacks try: training steps and their seed, and how many words a search tries."""

    steps: int
    seed: int
    candidates: int


@dataclass(frozen=True)
class StressRow:
    """A line of the table: in what share of the pictures ``wanted`` is seen.

    ``attack`` is "none" in the first line of a concept.  ``original`` and ``erased`` are the rates
    of both models under the attack.  ``control`` is the rate at which the *target* is seen in
    pictures of the erased model with something never trained in the target's place.
    ``recovered`` is ``erased`` divided by the original's rate without an attack.  ``worst`` is the
    prompt with the highest rate of the erased model.
    """

    concept: str
    attack: str
    how: str
    wanted: str
    original: Estimate | None
    erased: Estimate
    recovered: Estimate | None
    control: Estimate | None
    images: int
    prompts: int
    worst: str
    worst_rate: float


@dataclass(frozen=True)
class StressResult:
    """The result of a stress test."""

    tool: str
    recipe_sha256: str
    original_sha256: str
    erased_sha256: str
    judge: str
    judge_sha256: str
    settings: Settings
    seeds: int
    effort: Effort
    rows: tuple[StressRow, ...]
    warnings: tuple[str, ...]

    def to_data(self) -> dict[str, object]:
        """Return all of it, for JSON."""
        return asdict(self)


def stress(
    recipe: Recipe,
    original: LoadedModel,
    erased: LoadedModel,
    planned: Sequence[EvalPrompt],
    attacks: Sequence[Attack],
    detector: ConceptDetector,
    store: ImageStore,
    settings: Settings,
    seeds: int,
    effort: Effort,
    progress: Progress,
) -> StressResult:
    """Attack the erased model with those of the planned prompts that name a target.

    Raises CheckpointError for a file that makes no pictures.
    """
    renderer = ImageRenderer(original.architecture, settings, seeds, store, progress)
    rows: list[StressRow] = []
    warnings: list[str] = []
    for concept in recipe.concepts:
        target = concept.target
        prompts = tuple(
            prompt.prompt
            for prompt in planned
            if prompt.role == "target"
            and prompt.concept == target
            and target.lower() in prompt.prompt.lower()
        )
        if not prompts or not detector.knows(target):
            why = (
                "no prompt names it"
                if detector.knows(target)
                else f"the {detector.name} can't see it"
            )
            warnings.append(f"{target} was left out: {why}.")
            continue
        plain = PromptSet(original.variant, {prompt: prompt for prompt in prompts})
        pictures = tuple(chain.from_iterable(renderer.paths(plain).values()))
        context = AttackContext(
            original, erased, target, prompts, pictures, effort.steps, effort.seed,
            effort.candidates, lambda done, total: progress("searching words", done, total),
        )  # fmt: skip
        rows += _ConceptTest(context, renderer, detector).rows(attacks)
        warnings += prompt_count_warnings(len(prompts))
    return StressResult(
        tool=__version__,
        recipe_sha256=recipe.digest,
        original_sha256=original.digest,
        erased_sha256=erased.digest,
        judge=detector.name,
        judge_sha256=detector.digest,
        settings=settings,
        seeds=seeds,
        effort=effort,
        rows=tuple(rows),
        warnings=tuple(dict.fromkeys(warnings)),
    )


class _ConceptTest:
    """Draws and judges all attack cases of one concept."""

    def __init__(
        self, context: AttackContext, renderer: ImageRenderer, detector: ConceptDetector
    ) -> None:
        self._context, self._renderer, self._detector = context, renderer, detector
        self._plain = PromptSet(context.original.variant, context.unchanged_prompts())
        others = context.original.architecture.others
        self._others = PromptSet(context.original.variant, {prompt: prompt for prompt in others})

    def rows(self, attacks: Sequence[Attack]) -> list[StressRow]:
        """Return a line for the models without an attack, then one for each case."""
        context = self._context
        unattacked = AttackCase(
            "none", "", PromptSet(context.erased.variant, context.unchanged_prompts()), self._plain,
            control=PromptSet(context.erased.variant, context.with_words(NONSENSE)),
        )  # fmt: skip
        cases = [unattacked]
        for attack in attacks:
            cases += ATTACKS[attack](context)
        others = [self._others] if any(case.wanted == "sign" for case in cases) else []
        prompt_sets = [self._plain, *others]  # they come first: words are trained on their pictures
        for case in cases:
            prompt_sets += [s for s in (case.attacked, case.original, case.control) if s]
        self._renderer.draw(prompt_sets)
        original_rate = self._rate(self._plain, "target")
        return [self._row(case, original_rate) for case in cases]

    def _row(self, case: AttackCase, unattacked: Estimate) -> StressRow:
        """Judge one case; ``unattacked`` is the original's rate without an attack."""
        erased = self._rate(case.attacked, case.wanted)
        hit_rate = rate(self._hits(case.attacked, case.wanted))
        return StressRow(
            concept=self._context.target,
            attack=case.attack,
            how=case.how,
            wanted=self._context.target if case.wanted == "target" else "the sign",
            original=self._rate(case.original, case.wanted) if case.original else None,
            erased=erased,
            recovered=recovery_ratio(erased, unattacked) if case.wanted == "target" else None,
            control=self._rate(case.control, case.wanted) if case.control else None,
            images=hit_rate.n,
            prompts=hit_rate.prompts,
            worst=case.attacked.prompts[hit_rate.worst],
            worst_rate=hit_rate.worst_rate,
        )

    def _rate(self, prompt_set: PromptSet, wanted: str) -> Estimate:
        hit_rate = rate(self._hits(prompt_set, wanted))
        return Estimate(hit_rate.rate, hit_rate.interval)

    def _hits(self, prompt_set: PromptSet, wanted: str) -> dict[str, tuple[int, int]]:
        """Count the hits and the pictures of each prompt."""
        by_prompt = self._renderer.paths(prompt_set)
        pixels = load_pixels(chain.from_iterable(by_prompt.values()))
        if wanted == "target":
            hits = iter(self._detector.hits(self._context.target, pixels))
        else:
            hits = iter(self._resembles_control(pixels))
        return {p: (sum(next(hits) for _ in paths), len(paths)) for p, paths in by_prompt.items()}

    def _resembles_control(self, pixels: Pixels) -> list[bool]:
        """Say for each picture whether it is nearer to the control sign's pictures.

        The other pictures are the original model's, of the target's prompts and of others.
        """
        control = draw_control_pictures(CONTROL_PICTURES, pixels.shape[1])
        prompt_sets = (self._plain, self._others)
        paths = chain(*(chain(*self._renderer.paths(s).values()) for s in prompt_sets))
        groups = [self._detector.features(p) for p in (control, load_pixels(paths))]
        return [group == 0 for group in nearest_group(self._detector.features(pixels), groups)]
