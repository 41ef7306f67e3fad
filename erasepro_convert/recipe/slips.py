"""Characters that look right in an editor and mean something else, or nothing, in a recipe."""

import re
import unicodedata

_DOUBLE = "“”„‟«»‹›〝〞〟「」『』＂"
_SINGLE = "‘’‚‛＇"
_QUOTED = re.compile(
    f"[{_DOUBLE}][^{_DOUBLE}]*[{_DOUBLE}]?|[^{_DOUBLE}]*[{_DOUBLE}]|[{_SINGLE}].*[{_SINGLE}]",
    re.DOTALL,
)
"""Such marks around a text, or one at either end; an apostrophe (d’Arc) is none."""

_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
"""What joins letters and emoji (U+200C, U+200D) has a meaning and is not among them."""

_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_FULL_WIDTH = re.compile("[\uff01-\uff5e]")
_COLON = re.compile(r"\s*(?:-\s+)?[\w.]+:[^\s/]")


def quoted(text: str) -> str | None:
    """The text without the typographic quotation marks around it; None where there are none."""
    return text.strip(_DOUBLE + _SINGLE) if _QUOTED.fullmatch(text) else None


def invisible(text: str) -> str | None:
    """The first character that does not show, with its place; None where all do."""
    found = _INVISIBLE.search(text)
    if not found:
        return None
    before = text[: found.start()][-20:]
    return f"{_named(found[0])} " + (f"after {before!r}" if before else "at its beginning")


def hint(text: str) -> str:
    """What may have gone wrong in text that YAML takes for something else, to end a message."""
    if character := invisible(text):
        return f"; there is an invisible {character}"
    if "\t" in text:
        return "; YAML is indented with spaces, not with tabs"
    if space := _SPACE.search(text):
        return f"; there is a {_named(space[0])}, which YAML does not take for a space"
    if wide := _FULL_WIDTH.search(text):
        return f"; write {chr(ord(wide[0]) - 0xFEE0)} for {wide[0]}"
    if _COLON.match(text):
        return "; a space goes behind the colon of a key"
    return ""


def _named(character: str) -> str:
    name = unicodedata.name(character, "character").lower()
    return f"{name} (U+{ord(character):04X})"
