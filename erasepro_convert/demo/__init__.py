"""The demo model: a trained miniature of SD1.x, its recipe, prompts and judge.

tools/demo_model made them; its README says how.
"""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal

from erasepro_convert.demo.judge import Judge, load_judge

__all__ = ["Judge", "Prompt", "checkpoint", "load_judge", "prompts", "recipe_text"]


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


def recipe_text() -> str:
    """The recipe that the demo runs."""
    return (files(__package__) / "recipe.yaml").read_text("utf-8")


@contextmanager
def checkpoint() -> Iterator[Path]:
    """The shipped checkpoint as a file."""
    with as_file(files(__package__) / "demo.safetensors") as path:
        yield path
