"""Text from a stranger's file, made fit for a message or a list."""

from collections.abc import Iterator
from contextlib import contextmanager

from erasepro_convert.errors import CheckpointError

LONGEST = 300
"""Characters; the longest tensor name of a real checkpoint has 107."""


def printable(text: str, limit: int = LONGEST) -> str:
    """``text`` with an escape for whatever a terminal does not show, cut to ``limit``."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:limit])
    return shown[:limit] + ("…" if max(len(shown), len(text)) > limit else "")


def is_plain(text: str) -> bool:
    """Whether ``text`` can be listed, written and printed as it is."""
    return len(text) <= LONGEST and text.isprintable()


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put a file's name before what is wrong with it."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from error
