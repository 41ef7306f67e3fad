"""A comparison as JSON, CSV and Markdown."""

import csv
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import groupby

from erasepro_convert.compare.columns import Cell, Column
from erasepro_convert.compare.conversion import Cost
from erasepro_convert.compare.run import Comparison
from erasepro_convert.evaluate.output import estimate_cells
from erasepro_convert.evaluate.results import ARROWS, Estimate
from erasepro_convert.runtime import figures
from erasepro_convert.runtime.hashing import pretty_json

MEGABYTE = 10**6
SHOWN_COLUMNS = ("total:",)
"""Where a judge has columns that begin so, a table shows only these.

NudeNet counts many body parts at two thresholds; the totals are enough for a table.
"""

HEADINGS = (
    "judge", "column", "better", "method", "value", "low", "high", "best", "difference",
    "difference_low", "difference_high", "p_holm", "images", "prompts",
)  # fmt: skip


def to_json(comparison: Comparison) -> str:
    """Write everything but the pictures as JSON, with sorted keys and a final newline."""
    return pretty_json(comparison.to_data())


def to_csv(comparison: Comparison) -> str:
    """Write a line for each column and method, the original first, then the costs."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADINGS)
    for column in comparison.columns:
        writer.writerows(csv_rows(column))
    for method, cost in comparison.costs.items():
        for name, value in vars(cost).items():
            writer.writerow(["cost", name, "lower", method, value, *[""] * 9])
    return text.getvalue()


def csv_rows(column: Column) -> Iterator[list[object]]:
    """Give the rows of one column under ``HEADINGS``: the original, then each method."""
    about = [column.judge, column.name, column.better]
    counts = [column.images, column.prompts]
    if column.original:
        yield [*about, "original", *estimate_cells(column.original), "", "", "", "", "", *counts]
    for method, cell in column.cells.items():
        against = cell.against
        difference = estimate_cells(against.difference if against else None)
        p = against.p if against and against.p is not None else ""
        yield [*about, method, *estimate_cells(cell.value), int(cell.best), *difference, p, *counts]


def table_columns(comparison: Comparison) -> Iterator[tuple[str, list[Column]]]:
    """Give each judge with the columns of it that a table shows."""
    for judge, judge_columns in groupby(comparison.columns, lambda column: column.judge):
        shown = list(judge_columns)
        if parts := [c for c in shown if c.name.startswith(SHOWN_COLUMNS)]:
            shown = parts
        yield judge, shown


def to_markdown(comparison: Comparison) -> str:
    """Write a table for each judge, then one of costs; what is best beyond chance is bold."""
    methods = list(comparison.evaluations)
    parts = []
    for judge, shown in table_columns(comparison):
        headings = [judge, *(f"{column.name} {ARROWS[column.better]}" for column in shown)]
        rows = [["*original*", *(format_estimate(column.original) for column in shown)]]
        rows += [[m, *(format_cell(column.cells.get(m)) for column in shown)] for m in methods]
        parts.append(markdown_table(headings, rows))
    costs = [[method, *cost_cells(cost)] for method, cost in comparison.costs.items()]
    parts.append(markdown_table(["cost", *COSTS], costs))
    return "\n".join(parts)


COSTS = ("seconds", "peak MB", "parameters", "‖ΔW‖/‖W‖")


def cost_cells(cost: Cost) -> list[str]:
    """Format the cells of a method's costs."""
    return [
        f"{cost.seconds:.1f}",
        f"{cost.peak / MEGABYTE:.0f}",
        f"{cost.parameters:,}",
        f"{cost.relative_update:.2%}",
    ]


def format_estimate(estimate: Estimate | None, ends: str = " ({}…{})", value: str = "{}") -> str:
    """Format an estimate with its interval, as ``figures.format_estimate`` does.

    The number of decimals follows the width of the interval, else the size of the value.
    """
    interval = estimate.interval if estimate else None
    size = interval.high - interval.low if interval else abs(estimate.value) if estimate else 0.0
    decimals = 2 if size >= 0.05 or size == 0 else 3 if size >= 0.01 else 4
    return figures.format_estimate(estimate, decimals, ends, value)


def format_cell(cell: Cell | None) -> str:
    """Format a method's estimate with its interval, in bold where it is best beyond chance."""
    if cell is None:
        return "–"
    text = format_estimate(cell.value)
    return f"**{text}**" if cell.best else text


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
