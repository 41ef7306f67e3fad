"""Cells of tables that hold numbers, checked as they are read."""

from math import isfinite

from erasepro_convert.datasets.csv_reader import CsvReader
from erasepro_convert.runtime.printable import quoted

SEEDS = 1 << 64
"""torch takes seeds below this number."""


def first_of(table: CsvReader, *columns: str) -> str | None:
    """Return the first of these columns that the table has."""
    return next((column for column in columns if column in table.columns), None)


def whole_number(table: CsvReader, row: dict[str, str], column: str) -> int:
    """Return a cell as a number below 2^64.  Raises UsageError for any other cell."""
    text = row[column]
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) < SEEDS):
        table.fail(f"{column} {quoted(text, 60)} is no whole number from 0 to 2^64 - 1")
    return int(text)


def guidance_scale(table: CsvReader, row: dict[str, str], column: str | None) -> float | None:
    """Return the guidance scale of a row, None where it has none.

    Raises UsageError for a cell that is neither empty nor a scale.
    """
    text = row[column] if column else ""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not (isfinite(value) and value >= 0):
        table.fail(f"{column} {quoted(text, 60)} is no guidance scale")
    return value


def words(table: CsvReader, row: dict[str, str], column: str) -> str:
    """Return a cell that has words.  Raises UsageError for an empty one."""
    if not row[column].strip():
        table.fail(f"{column} is empty")
    return row[column]
