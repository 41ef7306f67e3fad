"""Every measured figure of the pages, from the CSV files: ``python -m benchmarks.figures``.

A page says in comments, which no reader sees, where its figures are from
(benchmarks/addresses.py says what an address is):

- ``0.88<!-- study demo/ten/defaults/colours -->`` behind a figure: the figure is replaced and keeps
  its number of digits;
- ``<!-- rows ADDRESS; ADDRESS … -->`` and ``<!-- end -->`` around a table: the figures of a row are
  replaced one after another, with what the row's own comment says in place of ``{}``;
- ``<!-- NAME -->`` and ``<!-- end -->`` around a table of benchmarks/method_tables.py or
  stress_tables.py: the table is replaced as a whole.
"""

import re
from functools import cache
from itertools import chain
from pathlib import Path

from benchmarks import method_tables, stress_tables
from benchmarks.addresses import AddressError, figure, read
from benchmarks.exact import FIGURE, like
from benchmarks.method_settings import RESULTS

PAGES = [Path("README.md"), *sorted(Path("docs").glob("*.md"))]
BLOCK = re.compile(
    r"^<!-- (?P<name>[^\n]+) -->\n(?P<body>.*?)^<!-- end -->$", re.DOTALL | re.MULTILINE
)
MARKED = re.compile(rf"(?P<figure>{FIGURE})<!-- (?P<address>.+?) -->")
ROW = re.compile(r"(?P<label>.*?<!-- (?P<key>.+?) -->)(?P<cells>.*)")
OTHERS = {"verdict", "tables", "library"}
"""Blocks that other commands fill: benchmarks/comparison_page.py and tools/recipe_page.py."""


def main() -> None:
    """Put the figures into the pages."""
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


def filled(text: str) -> str:
    """The page with its figures."""
    parts, end = [], 0
    for block in BLOCK.finditer(text):
        parts += [_prose(text[end : block.start()]), _block(block)]
        end = block.end()
    return "".join([*parts, _prose(text[end:])])


def unmarked(text: str) -> str:
    """What no comment and no table of results accounts for, without code and addresses of links."""
    for pattern in (r"```.*?```", BLOCK, MARKED, r"`[^`\n]*`", r"\]\([^)]*\)"):
        text = re.sub(pattern, " ", text, flags=0 if isinstance(pattern, re.Pattern) else re.DOTALL)
    return text


def _prose(text: str) -> str:
    if stray := re.search(r"<!--.*?-->", MARKED.sub("", text)):
        raise AddressError(f"{stray[0]} stands behind no figure and opens no table")
    return MARKED.sub(lambda m: f"{_like(m['address'], m['figure'])}<!-- {m['address']} -->", text)


def _block(block: re.Match[str]) -> str:
    name, body = block["name"], block["body"]
    if name.startswith("rows "):
        heading, rule, *rows = body.splitlines()
        addresses = name.removeprefix("rows ").split("; ")
        body = "".join(f"{row}\n" for row in (heading, rule, *(_row(r, addresses) for r in rows)))
    elif name not in OTHERS:
        if name not in _tables():
            raise AddressError(f"no table is called {name!r}")
        body = _tables()[name]
    return f"<!-- {name} -->\n{body}<!-- end -->"


def _row(text: str, addresses: list[str]) -> str:
    row = ROW.fullmatch(text)
    if not row:
        raise AddressError(f"the row {text!r} does not say of what it is")
    parts = re.split(rf"((?<![\w.,-]){FIGURE}(?![\w.,])|–)", row["cells"])
    if len(parts) != 2 * len(addresses) + 1:
        raise AddressError(f"the row {text!r} has {len(parts) // 2} figures of {len(addresses)}")
    figures = (
        "–" if written == "–" else _like(address.replace("{}", row["key"]), written)
        for address, written in zip(addresses, parts[1::2], strict=True)
    )
    return row["label"] + "".join(chain(*zip(parts[::2], (*figures, ""), strict=True)))


def _like(address: str, written: str) -> str:
    return like(figure(address), written)


@cache
def _tables() -> dict[str, str]:
    return method_tables.tables(read(RESULTS)) | stress_tables.tables(read(stress_tables.RESULTS))


if __name__ == "__main__":
    main()
