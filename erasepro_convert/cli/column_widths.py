"""Narrowing the columns of a table that is wider than the terminal."""

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Column, Table

LEAST = 12
"""The least width of a column of long texts, in characters."""
UNLIMITED = 1_000_000
"""A width in characters that no line reaches."""


def natural_width(table: Table, console: Console) -> int:
    """Return the width of a table in which no cell is wrapped, in characters."""
    return _measure(table, console).maximum


def fit(table: Table, console: Console) -> None:
    """Narrow columns until the table fits into the console, beginning with those of long texts.

    Cells wrap between words.  Only a column whose overflow is ``fold`` (which marks long texts)
    breaks words, so that a table of long words can stay wider than the console.
    """
    excess = natural_width(table, console) - console.width
    if excess <= 0:
        return
    columns = table.columns
    ranges = [_range(column, console) for column in columns]
    widths = [most for _, most in ranges]
    for _ in range(excess):
        shrinkable = [i for i, (least, _) in enumerate(ranges) if widths[i] > least]
        if not shrinkable:
            break
        widths[max(shrinkable, key=lambda i: (columns[i].overflow == "fold", widths[i]))] -= 1
    for column, width in zip(columns, widths, strict=True):
        column.min_width = column.max_width = width


def _range(column: Column, console: Console) -> tuple[int, int]:
    """Return the least and the greatest useful width of a column, in characters."""
    cells = [_measure(cell, console) for cell in (column.header, *column.cells)]
    most = max(cell.maximum for cell in cells)
    if column.no_wrap:
        return most, most
    least = max(cell.minimum for cell in cells)
    return (min(LEAST, least) if column.overflow == "fold" else least), most


def _measure(content: RenderableType, console: Console) -> Measurement:
    return Measurement.get(console, console.options.update(max_width=UNLIMITED), content)
