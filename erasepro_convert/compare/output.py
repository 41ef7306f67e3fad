"""A comparison as JSON, CSV and Markdown."""

import csv
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import groupby

from erasepro_convert.compare.columns import Cell, Column
from erasepro_convert.compare.conversion import Cost
from erasepro_convert.compare.run import Comparison
from erasepro_convert.evaluate.output import cells
from erasepro_convert.evaluate.results import ARROWS, Estimate
from erasepro_convert.runtime.hashing import pretty_json

MEGABYTE = 10**6
SHOWN_PARTS = ("total:",)
"""Of a judge that counts parts of bodies at two thresholds, the columns that a table shows."""

HEADINGS = (
    "judge", "column", "better", "method", "value", "low", "high", "best", "difference",
    "difference_low", "difference_high", "p_holm", "images", "prompts",
)  # fmt: skip


def to_json(comparison: Comparison) -> str:
    """Everything but the pictures: sorted, with a final newline."""
    return pretty_json(comparison.to_data())


def to_csv(comparison: Comparison) -> str:
    """A line for each column and method, the original first."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADINGS)
    for column in comparison.columns:
        writer.writerows(csv_lines(column))
    for method, cost in comparison.costs.items():
        for name, value in vars(cost).items():
            writer.writerow(["cost", name, "lower", method, value, *[""] * 9])
    return text.getvalue()


def csv_lines(column: Column) -> Iterator[list[object]]:
    """Of a column, the cells under ``HEADINGS``: the original, then each method."""
    about = [column.judge, column.name, column.better]
    counts = [column.images, column.prompts]
    if column.original:
        yield [*about, "original", *cells(column.original), "", "", "", "", "", *counts]
    for method, cell in column.cells.items():
        against = cell.against
        difference = cells(against.difference if against else None)
        p = against.p if against and against.p is not None else ""
        yield [*about, method, *cells(cell.value), int(cell.best), *difference, p, *counts]


def tables(comparison: Comparison) -> Iterator[tuple[str, list[Column]]]:
    """The columns of each judge that a table shows."""
    for judge, of in groupby(comparison.columns, lambda column: column.judge):
        shown = list(of)
        if parts := [c for c in shown if c.name.startswith(SHOWN_PARTS)]:
            shown = parts
        yield judge, shown


def to_markdown(comparison: Comparison) -> str:
    """A table a judge, then one of costs; what is best beyond chance is bold."""
    methods = list(comparison.evaluations)
    parts = []
    for judge, shown in tables(comparison):
        headings = [judge, *(f"{column.name} {ARROWS[column.better]}" for column in shown)]
        rows = [["*original*", *(plain(column.original) for column in shown)]]
        rows += [[m, *(of_cell(column.cells.get(m)) for column in shown)] for m in methods]
        parts.append(markdown(headings, rows))
    costs = [[method, *of_cost(cost)] for method, cost in comparison.costs.items()]
    parts.append(markdown(["cost", *COSTS], costs))
    return "\n".join(parts)


COSTS = ("seconds", "peak MB", "parameters", "‖ΔW‖/‖W‖")


def of_cost(cost: Cost) -> list[str]:
    """The cells of a method's costs."""
    return [
        f"{cost.seconds:.1f}",
        f"{cost.peak / MEGABYTE:.0f}",
        f"{cost.parameters:,}",
        f"{cost.relative_update:.2%}",
    ]


def plain(value: Estimate | None) -> str:
    """A figure with its interval."""
    if value is None:
        return "–"
    figure, interval = texts(value)
    return f"{figure} ({interval})" if interval else figure


def texts(value: Estimate) -> tuple[str, str]:
    """A figure and its interval, empty where there is none.

    With as many decimals as the interval leaves a meaning, or as the figure itself needs.
    """
    inside = value.interval
    size = inside.high - inside.low if inside else abs(value.value)
    decimals = 2 if size >= 0.05 or size == 0 else 3 if size >= 0.01 else 4
    figure, *ends = (
        f"{number:z.{decimals}f}"
        for number in (value.value, *((inside.low, inside.high) if inside else ()))
    )
    return figure, "…".join(ends)


def of_cell(cell: Cell | None) -> str:
    """A method's figure with its interval; bold where it is best beyond chance."""
    if cell is None:
        return "–"
    return f"**{plain(cell.value)}**" if cell.best else plain(cell.value)


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
