"""The demo model: a trained miniature of SD1.x, with its recipe, its prompts and a classifier.

tools/demo_model made all of these; its README says how.
"""

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal

from erasepro_convert.demo.classifier import Classifier, load_classifier

__all__ = [
    "Classifier",
    "Prompt",
    "checkpoint",
    "contains_words",
    "find_class",
    "load_classifier",
    "prompts",
    "recipe_text",
]


@dataclass(frozen=True)
class Prompt:
    """A prompt with what a picture of it should show.

    ``concept`` is the class that the classifier's ``head`` should see.  ``role`` says how the
    prompt expresses it: by name (explicit) or by other words with that meaning (implicit).
    """

    concept: str
    head: str
    role: Literal["explicit", "implicit"]
    prompt: str


def prompts() -> list[Prompt]:
    """Read all prompts that the demo model is measured on."""
    text = (files(__package__) / "prompts.csv").read_text("utf-8")
    return [
        Prompt(
            row["concept"],
            row["head"],
            "explicit" if row["role"] == "explicit" else "implicit",
            row["prompt"],
        )
        for row in csv.DictReader(text.splitlines())
    ]


def find_class(words: str) -> tuple[str, str] | None:
    """Return the head and the class that words mean in the demo's world, None if they mean none.

    Words mean a class if they are its name, or if they occur in the prompts of this class alone,
    as "on fire" does.
    """
    known = prompts()
    by_name = {p.concept.lower(): (p.head, p.concept) for p in known}
    if words.lower() in by_name:
        return by_name[words.lower()]
    found = {(p.head, p.concept) for p in known if contains_words(p.prompt, words)}
    return found.pop() if len(found) == 1 else None


def contains_words(prompt: str, words: str) -> bool:
    """Whether a prompt contains some words, as whole words."""
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", prompt, re.IGNORECASE) is not None


def recipe_text() -> str:
    """Return the text of the recipe that the demo runs."""
    return (files(__package__) / "recipe.yaml").read_text("utf-8")


@contextmanager
def checkpoint() -> Iterator[Path]:
    """Give the path of the shipped checkpoint, which may be a temporary file."""
    with as_file(files(__package__) / "demo.safetensors") as path:
        yield path
