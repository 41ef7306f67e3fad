"""Find characters that look right in an editor but mean something else to YAML."""

import re
import unicodedata

from erasepro_convert.runtime.printable import quoted

_DOUBLE = "“”„‟«»‹›〝〞〟「」『』＂"
_SINGLE = "‘’‚‛＇"
_QUOTED = re.compile(
    f"[{_DOUBLE}][^{_DOUBLE}]*[{_DOUBLE}]?|[^{_DOUBLE}]*[{_DOUBLE}]|[{_SINGLE}].*[{_SINGLE}]",
    re.DOTALL,
)
"""Typographic quotation marks around a text, or a double one at either end.  An apostrophe in the
text (d’Arc) does not match."""

_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
"""Characters that do not show.  The joiners of letters and emoji (U+200C, U+200D) have a meaning,
so they are not among them."""

_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_FULL_WIDTH = re.compile("[\uff01-\uff5e]")
_COLON = re.compile(r"\s*(?:-\s+)?[\w.]+:[^\s/]")


def without_typographic_quotes(text: str) -> str | None:
    """The text without typographic quotation marks around it; None where there are none."""
    return text.strip(_DOUBLE + _SINGLE) if _QUOTED.fullmatch(text) else None


def find_invisible(text: str) -> str | None:
    """Describe the first character that does not show; None where all characters do."""
    found = _INVISIBLE.search(text)
    if not found:
        return None
    before = text[: found.start()][-20:]
    return f"{_named(found[0])} " + (f"after {quoted(before)}" if before else "at its beginning")


def syntax_hint(text: str) -> str:
    """Why YAML may have misread a text, as the end of a message; empty where nothing is found."""
    if character := find_invisible(text):
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
