"""Text from a stranger's file, made fit for a message or a list."""

LONGEST = 300
"""Characters; the longest tensor name of a real checkpoint has 107."""


def printable(text: str, limit: int = LONGEST) -> str:
    """``text`` with an escape for whatever a terminal does not show, cut to ``limit``."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:limit])
    return shown[:limit] + ("…" if max(len(shown), len(text)) > limit else "")


def is_plain(text: str) -> bool:
    """Whether ``text`` can be listed, written and printed as it is."""
    return len(text) <= LONGEST and text.isprintable()
