"""Text from an untrusted file, made safe for messages and lists.

A message quotes words with ``quoted``, which shows them as they are and what cannot be seen as an
escape.  Names of files stand in messages as they are; what prints a message makes it ``harmless``.
"""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from erasepro_convert.errors import CheckpointError

LENGTH_LIMIT = 300
"""Characters.  The longest tensor name in a real checkpoint has 107."""

PAGES = 10_000
"""Characters of a text in a document."""


def harmless(text: str, kept: str = "\n") -> str:
    """Escape characters that move a terminal's cursor or cannot be seen, but for those ``kept``."""
    return "".join(c if c.isprintable() or c in kept else ascii(c)[1:-1] for c in text)


def quoted(text: str, limit: int = LENGTH_LIMIT) -> str:
    """Return a text in quotation marks for a message, as ``printable`` shows it."""
    return f"'{printable(text, limit)}'"


def printable(text: str, limit: int = LENGTH_LIMIT) -> str:
    """Escape unprintable characters of a text, and cut it to ``limit`` characters."""
    escaped = harmless(text[:limit], kept="")
    return escaped[:limit] + ("…" if max(len(escaped), len(text)) > limit else "")


def shortened(text: str, width: int) -> str:
    """Escape unprintable characters, and cut to ``width`` cells of a terminal.

    A character of Chinese or Japanese takes two cells.
    """
    from rich.cells import cell_len, set_cell_size  # --help does without

    text = printable(text)
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def on_one_line(text: str) -> str:
    """Escape unprintable characters of a text, and join its lines; it can have some pages."""
    return printable(" ".join(text.split()), PAGES)


def is_plain(text: str) -> bool:
    """Whether ``text`` can be listed, written and printed as it is."""
    return len(text) <= LENGTH_LIMIT and text.isprintable()


@contextmanager
def prefixing_errors(name: str) -> Iterator[None]:
    """Put ``name`` before the message of a CheckpointError that the block raises."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}") from error


def shell_word(text: str) -> str:
    """Return a text as one word of a command line; a leading hyphen makes no option of it."""
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
