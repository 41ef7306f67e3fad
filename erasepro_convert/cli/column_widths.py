"""How wide the columns of a table are where there is less room than it would take."""

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Column, Table

LEAST = 12
"""Characters that a column of long texts keeps."""
UNLIMITED = 1_000_000
"""Characters of a line where no terminal would break it."""


def natural_width(table: Table, console: Console) -> int:
    """Characters that a table takes when no cell is wrapped."""
    return _measure(table, console).maximum


def fit(table: Table, console: Console) -> None:
    """Narrow columns until the table fits into the console, those of long texts first.

    Cells wrap between words.  Only a column whose overflow is ``fold`` (which marks long texts)
    breaks words, so a table of long words can stay wider than the console.
    """
    excess = natural_width(table, console) - console.width
    if excess <= 0:
        return
    columns = table.columns
    ranges = [_range(column, console) for column in columns]
    widths = [most for _, most in ranges]
    for _ in range(excess):
        able = [i for i, (least, _) in enumerate(ranges) if widths[i] > least]
        if not able:
            break
        widths[max(able, key=lambda i: (columns[i].overflow == "fold", widths[i]))] -= 1
    for column, width in zip(columns, widths, strict=True):
        column.min_width = column.max_width = width


def _range(column: Column, console: Console) -> tuple[int, int]:
    """The least and the most characters that a column makes use of."""
    cells = [_measure(cell, console) for cell in (column.header, *column.cells)]
    most = max(cell.maximum for cell in cells)
    if column.no_wrap:
        return most, most
    least = max(cell.minimum for cell in cells)
    return (min(LEAST, least) if column.overflow == "fold" else least), most


def _measure(what: RenderableType, console: Console) -> Measurement:
    return Measurement.get(console, console.options.update(max_width=UNLIMITED), what)
