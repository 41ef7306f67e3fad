"""Which of a recipe's targets a published prompt is about."""

import re
from collections.abc import Sequence

from erasepro_convert.datasets.published import PublishedPrompt
from erasepro_convert.recipe import Concept


class Targets:
    """A recipe's concepts, found in what publishers call them and in prompts.

    Spellings of a name in keys and file names are many: "Salvador Dali" is also ``salvador-dali``,
    ``salvador_dali`` and ``SalvadorDali``.  So a target is found in a file's name for a concept
    where it is a run of whole words of it, compared without case and without what separates words.
    """

    def __init__(self, concepts: Sequence[Concept]) -> None:
        """Take the concepts; where several are found, the one with the longest name counts."""
        self.concepts = sorted(concepts, key=lambda concept: -len(concept.target))
        self._words = _any_of([_whole_words(concept.target) for concept in self.concepts])
        self._names = _any_of([_spellings(concept.target) for concept in self.concepts])

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
        return self._concept_of(self._words.search(text))

    def split(self, text: str) -> list[str]:
        """Return what stands before, between and after the targets' words in a text."""
        ends = [
            0,
            *(end for match in self._words.finditer(text) for end in match.span()),
            len(text),
        ]
        return [text[start:end] for start, end in zip(ends[::2], ends[1::2], strict=True)]

    def find_by_name(self, name: str) -> Concept | None:
        """Return the concept that a publisher's name for one contains, None if there is none."""
        return self._concept_of(self._names.search(name))

    def _concept_of(self, match: re.Match[str] | None) -> Concept | None:
        return self.concepts[int(match.lastgroup[1:])] if match and match.lastgroup else None


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    """Compile alternatives, each a group with its number in the name; empty ones match nothing."""
    found = (f"(?P<c{i}>{pattern})" for i, pattern in enumerate(patterns) if pattern)
    return re.compile("|".join(found) or r"(?!)", re.IGNORECASE)


def _whole_words(words: str) -> str:
    """Return a pattern for some words as whole words, however many blanks are between them."""
    joined = r"\s+".join(map(re.escape, words.split()))
    return rf"(?<!\w){joined}(?!\w)"


def _spellings(words: str) -> str:
    """Return a pattern for some words however they are separated, if they have letters at all."""
    letters = r"[\W_]*".join(re.findall(r"[^\W_]", words))
    return rf"(?<![^\W_]){letters}(?![^\W_])" if letters else ""
