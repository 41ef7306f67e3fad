"""What an attack consists of: prompts for both models, and a control that was never trained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from erasepro_convert.attacks.model import LoadedModel, PromptSet

NONSENSE = "vlorbquat"
"""A word that no model was trained on."""

Attack = Literal["swap-te", "prefix", "ti", "tricks", "completion", "noise", "img2img", "inpaint"]


@dataclass(frozen=True)
class AttackCase:
    """One way of attacking a concept: one line of the table.

    ``original`` is the attack on the original model, where it can be attacked in this way.
    ``control`` is the attack on the erased model with something never trained in the target's
    place.  ``wanted`` says whether pictures are searched for the target or for the control sign.
    """

    attack: str
    how: str
    attacked: PromptSet
    original: PromptSet | None
    control: PromptSet | None
    wanted: Literal["target", "sign"] = "target"


@dataclass(frozen=True)
class AttackContext:
    """What attacks on one concept work with.

    ``prompts`` contain the target's words.  ``pictures`` are where the original model's pictures
    of them lie once they have been drawn.  ``steps`` and ``seed`` are for training an embedding;
    ``candidates`` is how many words a search tries, and ``report`` gets its progress.
    """

    original: LoadedModel
    erased: LoadedModel
    target: str
    prompts: tuple[str, ...]
    pictures: tuple[Path, ...]
    steps: int
    seed: int
    candidates: int
    report: Callable[[int, int], None]

    def unchanged_prompts(self) -> Mapping[str, str]:
        """Map each prompt to itself."""
        return {prompt: prompt for prompt in self.prompts}

    def with_words(self, *words: str) -> Mapping[str, str]:
        """Map each prompt to itself with other words for the target; the words take turns."""
        return {
            prompt: replace_target(prompt, self.target, words[i % len(words)])
            for i, prompt in enumerate(self.prompts)
        }


def replace_target(prompt: str, target: str, words: str) -> str:
    """Replace the target in a prompt by other words, whatever its capitals are."""
    start = prompt.lower().index(target.lower())
    return prompt[:start] + words + prompt[start + len(target) :]
