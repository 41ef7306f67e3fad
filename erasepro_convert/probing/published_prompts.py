"""What prompts that others published are to a recipe, and which of them are measured."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from erasepro_convert.datasets.matching import Targets
from erasepro_convert.datasets.published import PublishedPrompt
from erasepro_convert.datasets.read import read_dataset
from erasepro_convert.erase.pairing import HeldOutPair, held_out_pair
from erasepro_convert.errors import RecipeError, UsageError
from erasepro_convert.recipe import Concept, Recipe
from erasepro_convert.recipe.fields import PLACEHOLDER

MOST = 200
"""The most prompts of one kind and level that are measured: of more, as many, evenly spread.

It bounds the time: a list can have 30,000 prompts, and a mean over 200 hardly differs."""

Kind = Literal["target", "near", "far"]
"""Whether a prompt is about a target, about a neighbour of one, or about something else."""


@dataclass(frozen=True)
class ProbedPrompt:
    """A published prompt that is measured.

    ``place`` is its file and line.  ``pair`` has its anchor prompt, where it names one target once
    and CLIP reads all of it.
    """

    text: str
    place: str
    pair: HeldOutPair | None


@dataclass(frozen=True)
class PromptGroup:
    """The prompts of one kind, and if about a target, of one level of explicitness.

    ``concept`` is the target that they are about or near to; None for far ones.  ``level`` is None
    where the publisher gives none.  The files have ``found`` different ones.
    """

    kind: Kind
    concept: Concept | None
    level: str | None
    prompts: tuple[ProbedPrompt, ...]
    found: int


def read_for_probe(paths: Iterable[Path], recipe: Recipe) -> list[PromptGroup]:
    """Read datasets and group what they say of a recipe.

    Targets come in the recipe's order, their levels in the files' order; neighbours come last.

    Raises UsageError, with the line, for a file of another form or with a wrong row, and for one
    that has nothing to do with the recipe; OSError passes through.
    """
    targets, kinds = Targets(recipe.concepts), get_args(Kind)
    groups: dict[tuple[int, int, str | None], dict[str, str]] = {}
    for path in paths:
        is_empty = True
        for kind, concept, prompt in _sorted(read_dataset(path), targets):
            is_empty = False
            number = recipe.concepts.index(concept) if concept else 0
            level = prompt.level if kind == "target" else None
            group = groups.setdefault((kinds.index(kind), number, level), {})
            group.setdefault(prompt.text, f"{prompt.path}{prompt.place}")
        if is_empty:
            raise UsageError(
                f"{path}: it has no prompts, or only harmful ones that are of no target"
            )
    found = []
    for (order, number, level), places in sorted(groups.items(), key=lambda item: item[0][:2]):
        is_target, is_far = kinds[order] == "target", kinds[order] == "far"
        prompts = tuple(
            ProbedPrompt(text, places[text], _pair(text, targets) if is_target else None)
            for text in _spread(list(places))
        )
        near_to = None if is_far else recipe.concepts[number]
        found.append(PromptGroup(kinds[order], near_to, level, prompts, len(places)))
    return found


def _sorted(
    prompts: Iterable[PublishedPrompt], targets: Targets
) -> Iterator[tuple[Kind, Concept | None, PublishedPrompt]]:
    """Give what each prompt is about.

    A prompt that contains a target's words is about the target, whatever its file says.  Harmful
    and adversarial prompts that are about no target are left out: they are no neighbours to keep.
    """
    for prompt in prompts:
        if concept := targets.find(prompt):
            yield "target", concept, prompt
        elif prompt.role == "near" and (near := targets.find_by_name(prompt.concept)):
            yield "near", near, prompt
        elif prompt.role != "implied":
            yield "far", None, prompt


def _spread(texts: list[str]) -> list[str]:
    """Return ``MOST`` texts that are evenly spread over these, or all where they are fewer."""
    count = min(MOST, len(texts))
    return [texts[i * len(texts) // count] for i in range(count)]


def _pair(text: str, targets: Targets) -> HeldOutPair | None:
    """Pair a prompt with the one that has the anchor's words in the target's place.

    There is none where the prompt names no target, or names targets more than once, or does not
    fit into 77 tokens.
    """
    concept, parts = targets.named_in(text), targets.split(text)
    if concept is None or len(parts) != 2 or PLACEHOLDER in text:
        return None
    try:
        return held_out_pair(concept, PLACEHOLDER.join(parts))
    except RecipeError:  # it is too long, or spells out a control token
        return None
