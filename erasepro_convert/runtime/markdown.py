"""Markdown made from the package's templates; values put into them come out as plain text.

Readers of Markdown differ: in which characters a backslash escapes, in what becomes a link by
itself, in whether HTML passes through.  They agree on character references, which never are
markup (CommonMark 0.31, 2.5).  All punctuation that could mean something is therefore written so.
"""

import re
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from erasepro_convert.runtime.printable import on_one_line, printable

MARKUP = re.compile(r"[!#$&*+:<=>@\[-`{-~]|(?<=www)\.|^-(?!\w)", re.IGNORECASE)
"""What could be markup, an address, a line's own mark, or another notation of some reader."""
LIST_NUMBER = re.compile(r"^(\d+)([.)])(?!\S)")


class Markdown(str):
    """Text that is Markdown already."""

    __slots__ = ()


def plain(value: object) -> Markdown:
    """Return a value as Markdown that shows it as it is, on one line; Markdown stays as it is."""
    if isinstance(value, Markdown):
        return value
    text = MARKUP.sub(_reference, on_one_line(str(value)))
    return Markdown(LIST_NUMBER.sub(lambda number: number[1] + _reference(number[2]), text))


def _reference(mark: re.Match[str] | str) -> str:
    return f"&#{ord(mark[0])};"


def code(value: str) -> Markdown:
    """Return a value as code, for names and digests."""
    if re.fullmatch(r"[\w.+/ -]*\w", value):
        return Markdown(f"`{value}`")
    return Markdown(f"<code>{plain(value)}</code>")


def verbatim(value: str) -> Markdown:
    """Return a value on one line as it is, for behind other text in a block of code."""
    return Markdown(printable(value))


def address(name: str) -> Markdown:
    """Return a file's name as the target of a link to the file beside this one."""
    return Markdown(quote(name))


def fill_markdown(template: str, **values: object) -> str:
    """Render the template at a path in the package; every value in it is plain text.

    ``code``, ``verbatim`` and ``address`` are filters for values that stand elsewhere.
    """
    environment = Environment(
        loader=PackageLoader("erasepro_convert", "."),
        autoescape=False,  # noqa: S701  # that would be for HTML; finalize escapes
        finalize=plain,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"code": code, "verbatim": verbatim, "address": address}
    return environment.get_template(template).render(values)
