"""A recipe as YAML, for people to go on from; whatever is in a text stays one text."""

import re
from collections.abc import Iterator, Sequence

import yaml

from erasepro_convert.recipe.schema import SCHEMA_FILE, schema_line

WIDEST = 1 << 20
"""A width at which the emitter breaks no line."""


def name_from(words: str) -> str:
    """Return words as the name of a recipe: small letters and digits, joined by hyphens."""
    return "-".join(re.findall(r"[^\W_]+", words.lower())) or "recipe"


def recipe_text(targets: Sequence[str], anchor: str) -> str:
    """Return a recipe that erases the targets, named after the first of them."""
    lines = ["version: 1", f"name: {_quoted(name_from(targets[0]))}", *_concepts(targets, anchor)]
    return "\n".join(lines) + "\n"


def commented_recipe_text(name: str, about: str, targets: Sequence[str], anchor: str) -> str:
    """Return a recipe that erases the targets, with comments on what else it could say."""
    lines = [
        schema_line(SCHEMA_FILE) + "# Each key is explained in docs/recipe.md, and by an editor.",
        "version: 1",
        f"name: {_quoted(name)}",
        *([f"about: {_quoted(about)}"] if about else []),
        "# A target is erased and becomes its anchor.  Other words for it are targets, too:",
        "# erasepro-convert suggest IN WORD lists what means the same to a checkpoint.",
        *_concepts(targets, anchor),
        "# Above 1 more of the targets goes and others change more:",
        "# strength: 2",
        "# What must stay, beside common language:",
        '# retain: {prompts: ["a photo of a dog", "a painting by Rembrandt"]}',
    ]
    return "\n".join(lines) + "\n"


def _concepts(targets: Sequence[str], anchor: str) -> Iterator[str]:
    yield "concepts:"
    for target in targets:
        yield f"  - {{target: {_quoted(target)}, anchor: {_quoted(anchor)}}}"


def _quoted(text: str) -> str:
    """Quote a text always: YAML reads some plain words as numbers or as nothing."""
    quoted: str = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=WIDEST)
    return quoted.rstrip("\n")
