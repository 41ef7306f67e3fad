"""What the parts of the page have in common."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

Updates = dict[Any, Any]
"""New properties or values, by component."""
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""For every event: the line above the tabs shows what is at work, and nothing is an API."""


def paths(found: Iterable[Path]) -> list[str]:
    """Return paths as choices."""
    return [str(path) for path in found]
