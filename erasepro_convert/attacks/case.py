"""What an attack consists of: sittings of both models, and of what was never trained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from erasepro_convert.attacks.model import Model, PromptSet

NONSENSE = "vlorbquat"
"""A word that no model was trained on."""

Attack = Literal["swap-te", "prefix", "ti", "tricks"]


@dataclass(frozen=True)
class Trial:
    """One line of the table.

    ``original`` is the same attack on the original model, where there is such a thing; ``control``
    is the attack on the erased model with something never trained in the target's place.
    ``wanted`` is what is looked for.
    """

    attack: str
    how: str
    attacked: PromptSet
    original: PromptSet | None
    control: PromptSet | None
    wanted: Literal["target", "sign"] = "target"


@dataclass(frozen=True)
class Case:
    """One concept of an erasure.

    ``prompts`` have the target's words in them; ``pictures`` are the original model's own of them,
    which lie there once it has been asked.  ``steps`` and ``seed`` are of training, ``candidates``
    is how many words are tried, and ``report`` gets how many of these are done.
    """

    original: Model
    erased: Model
    target: str
    prompts: tuple[str, ...]
    pictures: tuple[Path, ...]
    steps: int
    seed: int
    candidates: int
    report: Callable[[int, int], None]

    def plain(self) -> Mapping[str, str]:
        """Each prompt as it is."""
        return {prompt: prompt for prompt in self.prompts}

    def saying(self, *words: str) -> Mapping[str, str]:
        """Each prompt with other words for the target's, which take turns."""
        return {
            prompt: said(prompt, self.target, words[i % len(words)])
            for i, prompt in enumerate(self.prompts)
        }


def said(prompt: str, target: str, words: str) -> str:
    """A prompt with other words for the target's, however these are capitalised."""
    start = prompt.lower().index(target.lower())
    return prompt[:start] + words + prompt[start + len(target) :]
