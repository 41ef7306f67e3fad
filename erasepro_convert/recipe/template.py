"""A recipe as commented YAML, for people to go on from."""

from collections.abc import Sequence

import yaml

from erasepro_convert.recipe.schema import SCHEMA_FILE, schema_line

WIDEST = 1 << 20
"""A width at which the emitter breaks no line."""


def recipe_text(name: str, about: str, targets: Sequence[str], anchor: str) -> str:
    """Return a recipe that erases the targets; whatever is in a text stays one text."""
    lines = [
        schema_line(SCHEMA_FILE) + "# Each key is explained in docs/recipe.md, and by an editor.",
        "version: 1",
        f"name: {_quoted(name)}",
        *([f"about: {_quoted(about)}"] if about else []),
        "# A target is erased and becomes its anchor.  Other words for it are targets, too:",
        "# erasepro-convert suggest IN WORD lists what means the same to a checkpoint.",
        "concepts:",
        *(f"  - {{target: {_quoted(t)}, anchor: {_quoted(anchor)}}}" for t in targets),
        "# Above 1 more of the targets goes and others change more:",
        "# strength: 2",
        "# What must stay, beside common language:",
        '# retain: {prompts: ["a photo of a dog", "a painting by Rembrandt"]}',
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Quote a text always: YAML reads some plain words as numbers or as nothing."""
    quoted: str = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=WIDEST)
    return quoted.rstrip("\n")
