"""The callback by which long work reports how far it has come."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""The callback gets a stage (language, train, erase, lora, probe, hash, write, …), the amount done
and the total.  Several threads may call it.  A note may follow: "train: loss 0.0123"."""


def silent(stage: str, done: int, total: int) -> None:
    """Say nothing."""
