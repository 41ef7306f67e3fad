"""Text from an untrusted file, made safe for messages and lists."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from rich.cells import cell_len, set_cell_size

from erasepro_convert.errors import CheckpointError

LENGTH_LIMIT = 300
"""Characters.  The longest tensor name in a real checkpoint has 107."""

PAGES = 10_000
"""Characters of a text in a document."""


def printable(text: str, limit: int = LENGTH_LIMIT) -> str:
    """Escape unprintable characters of a text, and cut it to ``limit`` characters."""
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:limit])
    return escaped[:limit] + ("…" if max(len(escaped), len(text)) > limit else "")


def shortened(text: str, width: int) -> str:
    """Escape unprintable characters, and cut to ``width`` cells of a terminal.

    A character of Chinese or Japanese takes two cells.
    """
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
