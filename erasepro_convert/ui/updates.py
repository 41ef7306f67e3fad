"""What the parts of the page have in common."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import erasepro_convert as erasepro
from erasepro_convert.ui.folders import Folders

Updates = dict[Any, Any]
"""New properties or values, by component."""
HIDDEN: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""For every event: the line above the tabs shows what is at work, and nothing is an API."""
QUIET = HIDDEN | {"preprocess": False}
"""For events of fields: what they hold comes as it is.  Gradio would check it against choices that
may have changed since, and fail."""


def paths(found: Iterable[Path]) -> list[str]:
    """Return paths as choices."""
    return [str(path) for path in found]


def recipe_choices(folders: Folders) -> list[tuple[str, str]]:
    """Return the recipes in the folders, by the names of their files, then those with a name."""
    files = [(path.name, str(path)) for path in folders.recipes()]
    return files + [(name, name) for name in erasepro.recipe_names()]
