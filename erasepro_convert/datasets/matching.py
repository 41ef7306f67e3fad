"""Which of a recipe's targets a published prompt is about."""

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache

from erasepro_convert.datasets.published import PublishedPrompt
from erasepro_convert.recipe import Concept


class Targets:
    """A recipe's concepts, found in what publishers call them and in prompts.

    Spellings of a name in keys and file names are many: "Salvador Dali" is also ``salvador-dali``,
    ``salvador_dali`` and ``SalvadorDali``.  So a target is found in a file's name for a concept
    where it is a run of whole words of it, compared without case and without what separates words.
    """

    def __init__(self, concepts: Sequence[Concept]) -> None:
        """Take the concepts; where several are found, the first one counts."""
        self.concepts = concepts
        self.find_by_name = lru_cache(maxsize=4096)(self._find_by_name)

    def find(self, prompt: PublishedPrompt) -> Concept | None:
        """Return the concept that a prompt is about, None if it is about none.

        It is what the file says of the prompt, for harmful prompts what the file's name says, or
        else what the prompt names.
        """
        found = None
        if prompt.role in ("target", "implied"):
            found = self.find_by_name(prompt.concept)
        if prompt.role == "implied" and not found:
            found = self.find_by_name(prompt.path.stem)
        return found or self.named_in(prompt.text)

    def named_in(self, text: str) -> Concept | None:
        """Return the concept whose words stand in a text as whole words, None if there is none."""
        if (match := self._words.search(text)) is None:
            return None
        return next(
            c
            for c in self.concepts
            if re.fullmatch(_whole_words(c.target), match[0], re.IGNORECASE)
        )

    def split(self, text: str) -> list[str]:
        """Return what stands before, between and after the targets' words in a text."""
        return self._words.split(text)

    def _find_by_name(self, name: str) -> Concept | None:
        words = re.findall(r"[^\W_]+", name.casefold())
        runs = {
            "".join(words[start:end])
            for start in range(len(words))
            for end in range(start + 1, len(words) + 1)
        }
        return next((c for c in self.concepts if _letters(c.target) in runs), None)

    @cached_property
    def _words(self) -> re.Pattern[str]:
        longest_first = sorted((c.target for c in self.concepts), key=len, reverse=True)
        return re.compile("|".join(map(_whole_words, longest_first)) or r"(?!)", re.IGNORECASE)


def _whole_words(words: str) -> str:
    """Return a pattern for some words as whole words, however many blanks are between them."""
    joined = r"\s+".join(map(re.escape, words.split()))
    return rf"(?<!\w){joined}(?!\w)"


def _letters(name: str) -> str:
    return "".join(re.findall(r"[^\W_]+", name.casefold()))
