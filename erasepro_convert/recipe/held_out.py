"""Which prompts of a recipe have a target's words, and which are those that it solves for."""

from collections.abc import Iterable

from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.recipe.sections import Concept


def _contains(words: tuple[int, ...], part: tuple[int, ...]) -> bool:
    return any(words[i : i + len(part)] == part for i in range(len(words) - len(part) + 1))


def without_targets(concepts: Iterable[Concept], prompts: tuple[str, ...]) -> tuple[str, ...]:
    """The prompts that contain no target's words (compared as tokens)."""
    targets = [tokenize(concept.target).words for concept in concepts]
    return tuple(
        prompt
        for prompt in dict.fromkeys(prompts)
        if not any(_contains(tokenize(prompt).words, target) for target in targets)
    )


def shared_prompt(concept: Concept, templates: tuple[str, ...]) -> str | None:
    """A target prompt that is solved for and that these templates give too, if there is one."""
    solved = {tokenize(target).ids for target, _ in concept.prompt_pairs()}
    found = (
        target for target, _ in concept.prompt_pairs(templates) if tokenize(target).ids in solved
    )
    return next(found, None)
