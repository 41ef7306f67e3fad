"""How far work has come."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Gets a stage (tune, erase, probe, hash, write, …), what is done of it and what there is in all;
from several threads."""
