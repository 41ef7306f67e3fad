"""The summary of a batch on one page of HTML, for people who have to answer for it."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from urllib.parse import quote

from erasepro_convert.batch.inputs import PassedOver
from erasepro_convert.batch.ledger import LEDGER, Entry, Outcome
from erasepro_convert.runtime.html_template import fill_template
from erasepro_convert.runtime.printable import printable
from erasepro_convert.storage.atomic import replacing

SUMMARY = "batch.html"
LONGEST = 10_000
"""The most characters of a line of text that the page shows."""
OUTCOMES: dict[Outcome, str] = {
    "done": "erased; the result keeps to the recipe's limits",
    "linked": "the input is that of another output, which was linked or copied",
    "failed": "it did not come to an end; the next run of the batch tries again",
    "exceeded": "erased, but the result exceeds a limit of its recipe; nothing was written",
    "refused": "the input is no sound checkpoint; nothing was written",
}
"""What each outcome means."""
ATTENTION: tuple[Outcome, ...] = ("failed", "exceeded", "refused")
"""Outcomes that somebody has to look into, in this order."""
LISTED = 20
"""How many names the page shows of each kind of file that was passed over."""
NOTHING_PASSED_OVER: PassedOver = MappingProxyType({})
BARS = 10
"""How many bars a distribution has up to 1; one more bar has the values above."""


def write_summary(
    folder: Path, entries: Mapping[str, Entry], passed_over: PassedOver = NOTHING_PASSED_OVER
) -> None:
    """Write the page; it does not depend on the order of the entries."""
    rows = sorted(entries.values(), key=attrgetter("output"))
    page = fill_template(
        "batch/summary.html.jinja",
        entries=rows,
        size=sum({entry.input.path: entry.input.size for entry in rows}.values()),
        number={entry.output: number for number, entry in enumerate(rows)},
        outcomes=OUTCOMES,
        counts=Counter(entry.outcome for entry in rows),
        attention={outcome: _by_reason(rows, outcome) for outcome in ATTENTION},
        recipes=list(_recipes(rows)),
        distributions=_distributions(rows),
        record=LEDGER,
        passed_over={reason: _shorten(paths) for reason, paths in sorted(passed_over.items())},
        plain=_plain,
        when=_when,
        link=_link,
    )
    with replacing(folder / SUMMARY) as (file,):
        file.write(page.encode())


def _shorten(paths: Sequence[str]) -> tuple[int, str]:
    """Return the number of paths, and a text with the first ones."""
    more = f" and {len(paths) - LISTED} more" if len(paths) > LISTED else ""
    return len(paths), ", ".join(sorted(paths)[:LISTED]) + more


def _by_reason(entries: Iterable[Entry], outcome: Outcome) -> dict[str, list[Entry]]:
    """Group the entries of one outcome by their reasons."""
    by_reason: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.outcome == outcome:
            by_reason.setdefault(entry.reason or "no reason is given", []).append(entry)
    return by_reason


@dataclass(frozen=True)
class _Recipe:
    """How many files of one recipe had each outcome, and the files with the worst measures."""

    name: str
    sha256: str
    counts: Counter[Outcome]
    leak: Entry | None
    drift: Entry | None


def _recipes(entries: Iterable[Entry]) -> Iterator[_Recipe]:
    """Give each recipe with its entries summed up, sorted by name."""

    def recipe(entry: Entry) -> tuple[str, str]:
        return entry.recipe, entry.recipe_sha256

    for (name, sha256), group in groupby(sorted(entries, key=recipe), recipe):
        recipe_entries = list(group)
        measured = [entry for entry in recipe_entries if entry.figures]
        yield _Recipe(
            name,
            sha256,
            Counter(entry.outcome for entry in recipe_entries),
            max(measured, key=attrgetter("figures.leak"), default=None),
            max(measured, key=attrgetter("figures.drift"), default=None),
        )


def _distributions(entries: Sequence[Entry]) -> list[tuple[str, list[tuple[str, int]]]]:
    """Return the distributions of leak and drift: a range and a count for each bar."""
    figures = [entry.figures for entry in entries if entry.figures]
    if not figures:
        return []
    return [
        ("leak", _bars([figure.leak for figure in figures])),
        ("drift", _bars([figure.drift for figure in figures])),
    ]


def _bars(values: Iterable[float]) -> list[tuple[str, int]]:
    """Return a range and the number of values in it, for each bar."""
    counts = Counter(min(BARS, int(value * BARS)) for value in values)
    ranges = [f"{step / BARS:.1f} – {(step + 1) / BARS:.1f}" for step in range(BARS)]
    return [(text, counts[step]) for step, text in enumerate([*ranges, "1.0 or more"])]


def _plain(text: str) -> str:
    """Escape unprintable characters of a text, line by line."""
    return "\n".join(printable(line, LONGEST) for line in text.splitlines())


def _when(finished: str) -> str:
    """Format a time as people write it, without its zone."""
    return _plain(finished.removesuffix("+00:00").replace("T", " "))


def _link(entry: Entry) -> str:
    """Return the link from the page to the manifest of an output."""
    assert entry.written
    path = PurePosixPath(entry.output)
    folder = path if entry.output_is_folder else path.parent
    return quote(os.fsencode(folder / entry.written.manifest))
