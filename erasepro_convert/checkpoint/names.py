"""Text from a stranger's file, made fit for a message or a list."""

LONGEST = 300
"""Characters; the longest tensor name of a real checkpoint has 107."""


def printable(text: str, limit: int = LONGEST) -> str:
    """``text``, cut to ``limit``, with an escape for whatever a terminal does not show."""
    cut = text[:limit]
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in cut
    )
    return shown + ("…" if len(text) > limit else "")


def is_plain(text: str) -> bool:
    """Whether ``text`` can be listed, written and printed as it is."""
    return len(text) <= LONGEST and text.isprintable()
