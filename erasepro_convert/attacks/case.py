"""What an attack consists of: what both models are given, and a control that was never trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

from erasepro_convert.attacks.model import LoadedModel, PromptSet, PromptSets
from erasepro_convert.attacks.target_distance import Rewrite, TargetDistances
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.runtime.progress import Progress

NONSENSE = "vlorbquat"
"""A word that no model was trained on."""


@dataclass(frozen=True)
class Distances:
    """How near an attack comes to the target's keys and values: see ``TargetDistances``.

    The three are those of ``AttackCase``; None where there is no such attack.
    """

    erased: float
    original: float | None
    control: float | None


@dataclass(frozen=True)
class AttackCase:
    """One way of attacking a concept: one line of the table.

    ``original`` is the attack on the original model; it is empty where that cannot be attacked in
    this way.  ``control`` is the attack on the erased model with something never trained in the
    target's place.  All have one set of prompts for each training seed, one where nothing is
    trained.  ``wanted`` says whether pictures are searched for the target or for the control sign.
    ``distances`` is None for an attack that text features say nothing about.
    """

    attack: str
    how: str
    attacked: PromptSets
    original: PromptSets
    control: PromptSets
    wanted: Literal["target", "sign"] = "target"
    distances: Distances | None = None


@dataclass(frozen=True)
class Effort:
    """How hard attacks try.

    ``steps`` is how long an embedding is trained, ``seeds`` how often a training or a search is
    repeated; ``candidates`` is how many words a search tries.
    """

    steps: int
    seeds: int
    candidates: int


@dataclass(frozen=True)
class AttackContext:
    """What attacks on one concept work with.

    ``prompts`` contain the target's words; they are what is drawn.  ``pictures`` are where the
    original model's pictures of them lie once they have been drawn; with ``draws`` they will be.
    ``distances`` measures attacks on the prompts of the recipe's probe; ``report`` gets how far a
    search has come.  ``others`` are prompts that name no target.  ``text_encoders`` are models
    whose text encoders are put in the erased one's place.
    """

    original: LoadedModel
    erased: LoadedModel
    target: str
    prompts: tuple[str, ...]
    pictures: tuple[Path, ...]
    draws: bool
    distances: TargetDistances
    effort: Effort
    report: Progress
    others: tuple[str, ...]
    text_encoders: tuple[LoadedModel, ...]

    @property
    def searches(self) -> int:
        """How often a search on text features is repeated: once where nothing is drawn."""
        return self.effort.seeds if self.draws else 1

    def rewritten(self, rewrite: Rewrite) -> Mapping[str, str]:
        """Map each prompt to what an attack makes of it.

        Where CLIP reads the same tokens as without an attack, so does this: those pictures exist.
        """
        found = {}
        for number, prompt in enumerate(self.prompts):
            plain = prompt, self.with_words(NONSENSE)(prompt, number)
            written = rewrite(prompt, number)
            ids = tokenize(written).ids
            found[prompt] = next((p for p in plain if tokenize(p).ids == ids), written)
        return found

    def with_words(self, *words: str) -> Rewrite:
        """Write other words for the target; the words take turns."""

        def rewrite(prompt: str, number: int) -> str:
            return replace_target(prompt, self.target, words[number % len(words)])

        return rewrite

    def prompt_case(self, attack: str, how: str, rewrite: Rewrite, control: Rewrite) -> AttackCase:
        """Return the case of prompts that are written in another way."""
        return self.search_case(attack, how, [rewrite], [control])

    def search_case(
        self, attack: str, how: str, rewrites: Sequence[Rewrite], controls: Sequence[Rewrite]
    ) -> AttackCase:
        """Return the case of a search that was repeated, for other ways to write prompts."""
        weights, original = self.erased.weights, self.original.weights
        return AttackCase(
            attack,
            how,
            attacked=tuple(PromptSet(self.erased.variant, self.rewritten(r)) for r in rewrites),
            original=tuple(PromptSet(self.original.variant, self.rewritten(r)) for r in rewrites),
            control=tuple(PromptSet(self.erased.variant, self.rewritten(r)) for r in controls),
            distances=Distances(
                erased=fmean(self.distances.of(r, weights, weights) for r in rewrites),
                original=fmean(self.distances.of(r, original, original) for r in rewrites),
                control=fmean(self.distances.of(r, weights, weights) for r in controls),
            ),
        )


def unchanged(prompt: str, number: int) -> str:
    """Leave a prompt as it is."""
    del number
    return prompt


def replace_target(prompt: str, target: str, words: str) -> str:
    """Replace the target in a prompt by other words, whatever its capitals are."""
    start = prompt.lower().index(target.lower())
    return prompt[:start] + words + prompt[start + len(target) :]
