"""What the parts of the page have in common."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import erasepro_convert as erasepro
from erasepro_convert.ui.folders import Folders

Updates = dict[Any, Any]
"""New properties or values, by component."""
HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
"""For every event: the line above the tabs shows what is at work, nothing is an API, and nothing
waits, since what takes long is a job."""
QUIET = HIDDEN | {"preprocess": False}
"""For events of fields: what they hold comes as it is.  Gradio would check it against choices that
may have changed since, and fail."""


def paths(found: Iterable[Path]) -> list[str]:
    """Return paths as choices."""
    return [str(path) for path in found]


def recipe_choices(folders: Folders) -> list[tuple[str, str]]:
    """Return the recipes in the folders by the names of their files, then those with a name.

    Those say what they are for.
    """
    files = [(path.name, str(path)) for path in folders.recipes()]
    named = erasepro.describe_recipes()
    return files + [(f"{one.name}: {one.about}".removesuffix(": "), one.name) for one in named]
