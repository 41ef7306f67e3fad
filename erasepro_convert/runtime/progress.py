"""How far work has come."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Gets a stage (tune, train, erase, probe, hash, write, …), what is done of it and what there is in
all; from several threads.  A colon and a note may follow the stage: "train: loss 0.0123"."""


def silent(stage: str, done: int, total: int) -> None:
    """Say nothing."""
