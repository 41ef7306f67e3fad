"""Breaking lines that are too long for a terminal, which would break them within words."""

import re
from collections.abc import Iterator

from rich.cells import cell_len

COMMAND = "$ "
"""What a line begins with that is to be copied into a shell."""
GO_ON = " \\"
"""What ends a line of a command that goes on in the next."""
WORD = re.compile(r" *[^ ]+")
SHELL_WORD = re.compile(r""" *(?:'[^']*'|"[^"]*"|[^ '"])+""")
"""Words with the spaces before them; a shell's word can have quoted ones inside."""


def wrapped(text: str, width: int) -> str:
    """Break lines of more than ``width`` cells between words, and indent what follows.

    A word that fits into no line, such as a path, stays whole: it can be copied from a terminal.
    So can a command.
    """
    return "\n".join(part for line in text.split("\n") for part in _parts(line, width))


def _parts(line: str, width: int) -> Iterator[str]:
    if cell_len(line) <= width:
        yield line
        return
    pattern, end = (SHELL_WORD, GO_ON) if line.startswith(COMMAND) else (WORD, "")
    indent = " " * (len(line) - len(line.lstrip(" ")) + 2)
    room = width - len(end)
    part = ""
    for word in pattern.findall(line):
        below = indent + word.lstrip(" ")
        if part and cell_len(part + word) > room >= cell_len(below):
            yield part + end
            part = below
        else:
            part += word
    yield part
