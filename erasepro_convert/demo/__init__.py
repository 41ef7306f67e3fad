"""The demo model: a trained miniature of SD1.x, its recipe, prompts and judge.

tools/demo_model made them; its README says how.
"""

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal

from erasepro_convert.demo.judge import Judge, load_judge

__all__ = [
    "Judge",
    "Prompt",
    "checkpoint",
    "load_judge",
    "meaning",
    "prompts",
    "recipe_text",
    "says",
]


@dataclass(frozen=True)
class Prompt:
    """A prompt with what a picture of it should show.

    ``concept`` is the class that the judge's ``head`` should see.  ``role`` says how the prompt
    puts it: by name (explicit) or by other words that mean the same (implicit).
    """

    concept: str
    head: str
    role: Literal["explicit", "implicit"]
    prompt: str


def prompts() -> list[Prompt]:
    """All prompts that the demo model is measured on."""
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


def meaning(words: str) -> tuple[str, str] | None:
    """What words mean in the demo's world, as head and class; None where they mean nothing.

    They are a class's own name, or stand in prompts of one class alone, as "on fire" does.
    """
    known = prompts()
    of_name = {p.concept.lower(): (p.head, p.concept) for p in known}
    if words.lower() in of_name:
        return of_name[words.lower()]
    found = {(p.head, p.concept) for p in known if says(p.prompt, words)}
    return found.pop() if len(found) == 1 else None


def says(prompt: str, words: str) -> bool:
    """Whether words stand in a prompt, as whole words."""
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", prompt, re.IGNORECASE) is not None


def recipe_text() -> str:
    """The recipe that the demo runs."""
    return (files(__package__) / "recipe.yaml").read_text("utf-8")


@contextmanager
def checkpoint() -> Iterator[Path]:
    """The shipped checkpoint as a file."""
    with as_file(files(__package__) / "demo.safetensors") as path:
        yield path
