"""A stress test: every attack on every concept, drawn and judged beside the original model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from erasepro_convert.attacks import control_concept as sign
from erasepro_convert.attacks import paraphrases as tricks
from erasepro_convert.attacks import prefix
from erasepro_convert.attacks import swap_text_encoder as swap
from erasepro_convert.attacks import textual_inversion as inversion
from erasepro_convert.attacks.case import NONSENSE, Attack, Case, Trial
from erasepro_convert.attacks.detector import Sight, most_like
from erasepro_convert.attacks.model import Model, PromptSet
from erasepro_convert.attacks.recovery import recovered
from erasepro_convert.attacks.sampler import Studio
from erasepro_convert.evaluate.image_store import ImageStore, Pixels, Settings, pixels_of
from erasepro_convert.evaluate.metrics.rates import few_prompts, rate
from erasepro_convert.evaluate.plan import EvalPrompt
from erasepro_convert.evaluate.results import Estimate
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.version import __version__

ATTACKS: Mapping[Attack, Callable[[Case], Iterator[Trial]]] = {
    "swap-te": swap.trials,
    "prefix": prefix.trials,
    "tricks": tricks.trials,
    "ti": inversion.trials,
}

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Effort:
    """How hard attacks try: training steps, their seed, and words that a search looks at."""

    steps: int
    seed: int
    candidates: int


@dataclass(frozen=True)
class Row:
    """A line of the table: how often ``wanted`` is seen.

    ``attack`` is "none" in the first line of a concept.  ``original`` is the original model under
    the same attack, ``erased`` the erased one, ``control`` the same attack with something never
    trained in the target's place, in which the *target* is looked for; ``recovered`` is ``erased``
    by the original's rate under no attack.  ``worst`` is the prompt that gave most.
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
class Stress:
    """What came of it."""

    tool: str
    recipe_sha256: str
    original_sha256: str
    erased_sha256: str
    judge: str
    judge_sha256: str
    settings: Settings
    seeds: int
    effort: Effort
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]

    def to_data(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def stress(
    recipe: Recipe,
    base: Path,
    erased: Path,
    asked: Sequence[EvalPrompt],
    attacks: Sequence[Attack],
    sight: Sight,
    album: ImageStore,
    settings: Settings,
    seeds: int,
    effort: Effort,
    progress: Progress,
) -> Stress:
    """Attack the erased model; of ``asked`` only what names a target is used.

    Raises CheckpointError for a file that makes no pictures.
    """
    original, changed = Model(base), Model(erased)
    studio = Studio(original.architecture, settings, seeds, album, progress)
    rows: list[Row] = []
    warnings: list[str] = []
    for concept in recipe.concepts:
        target = concept.target
        prompts = tuple(
            one.prompt
            for one in asked
            if one.role == "target"
            and one.concept == target
            and target.lower() in one.prompt.lower()
        )
        if not prompts or not sight.knows(target):
            why = "no prompt names it" if sight.knows(target) else f"the {sight.name} can't see it"
            warnings.append(f"{target} was left out: {why}.")
            continue
        plain = PromptSet(original.subject, {prompt: prompt for prompt in prompts})
        pictures = tuple(chain.from_iterable(studio.paths(plain).values()))
        case = Case(
            original, changed, target, prompts, pictures, effort.steps, effort.seed,
            effort.candidates, lambda done, all_: progress("searching words", done, all_),
        )  # fmt: skip
        rows += _Bench(case, studio, sight).rows(attacks)
        warnings += few_prompts(len(prompts))
    return Stress(
        tool=__version__,
        recipe_sha256=recipe.digest,
        original_sha256=original.digest,
        erased_sha256=changed.digest,
        judge=sight.name,
        judge_sha256=sight.digest,
        settings=settings,
        seeds=seeds,
        effort=effort,
        rows=tuple(rows),
        warnings=tuple(dict.fromkeys(warnings)),
    )


class _Bench:
    """One concept's trials, drawn and judged."""

    def __init__(self, case: Case, studio: Studio, sight: Sight) -> None:
        self._case, self._studio, self._sight = case, studio, sight
        self._plain = PromptSet(case.original.subject, case.plain())
        others = case.original.architecture.others
        self._others = PromptSet(case.original.subject, {prompt: prompt for prompt in others})

    def rows(self, attacks: Sequence[Attack]) -> list[Row]:
        """No attack first."""
        case = self._case
        unattacked = Trial(
            "none", "", PromptSet(case.erased.subject, case.plain()), self._plain,
            control=PromptSet(case.erased.subject, case.saying(NONSENSE)),
        )  # fmt: skip
        trials = [unattacked]
        for attack in attacks:
            trials += ATTACKS[attack](case)
        extra = [self._others] if any(trial.wanted == "sign" for trial in trials) else []
        asked = [self._plain, *extra]  # before all else: others learn from these pictures
        for trial in trials:
            asked += [s for s in (trial.attacked, trial.original, trial.control) if s]
        self._studio.draw(asked)
        before = self._value(self._plain, "target")
        return [self._row(trial, before) for trial in trials]

    def _row(self, trial: Trial, before: Estimate) -> Row:
        erased = self._value(trial.attacked, trial.wanted)
        found = rate(self._hits(trial.attacked, trial.wanted))
        return Row(
            concept=self._case.target,
            attack=trial.attack,
            how=trial.how,
            wanted=self._case.target if trial.wanted == "target" else "the sign",
            original=self._value(trial.original, trial.wanted) if trial.original else None,
            erased=erased,
            recovered=recovered(erased, before) if trial.wanted == "target" else None,
            control=self._value(trial.control, trial.wanted) if trial.control else None,
            images=found.n,
            prompts=found.prompts,
            worst=trial.attacked.prompts[found.worst],
            worst_rate=found.worst_rate,
        )

    def _value(self, sitting: PromptSet, wanted: str) -> Estimate:
        found = rate(self._hits(sitting, wanted))
        return Estimate(found.rate, found.interval)

    def _hits(self, sitting: PromptSet, wanted: str) -> dict[str, tuple[int, int]]:
        """Hits and pictures of each prompt."""
        by_prompt = self._studio.paths(sitting)
        pixels = pixels_of(chain.from_iterable(by_prompt.values()))
        if wanted == "target":
            hits = iter(self._sight.hits(self._case.target, pixels))
        else:
            hits = iter(self._like_the_sign(pixels))
        return {p: (sum(next(hits) for _ in paths), len(paths)) for p, paths in by_prompt.items()}

    def _like_the_sign(self, pixels: Pixels) -> list[bool]:
        """Whether pictures are nearer to drawings of the sign than to any of the original's."""
        drawn = sign.drawings(inversion.SIGNS, pixels.shape[1])
        sittings = (self._plain, self._others)
        shown = pixels_of(chain(*(chain(*self._studio.paths(s).values()) for s in sittings)))
        groups = [self._sight.features(some) for some in (drawn, shown)]
        return [group == 0 for group in most_like(self._sight.features(pixels), groups)]
