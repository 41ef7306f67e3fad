"""Rows of a CSV file, one at a time, with the line that each ends at."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from erasepro_convert.errors import UsageError

LONGEST_LINE = 1 << 20
"""Bytes; longer ones are of a file that is no table, and may be all of it."""


class Table:
    """A table with named columns; to be read once.

    Raises UsageError, with the line, for what is none.
    """

    def __init__(self, lines: Iterable[str], name: str) -> None:
        """``lines`` keep their ends: a value in quotes may have some."""
        self.name = name
        self._rows = csv.reader(lines, strict=True)
        self.columns = self._next() or []

    def require(self, columns: Iterable[str]) -> None:
        """Refuse a table without some columns."""
        if missing := [column for column in columns if column not in self.columns]:
            raise UsageError(
                f"{self.name}: it has no column {missing[0]}; needed are {', '.join(columns)}"
            )

    def fail(self, problem: str) -> NoReturn:
        """Refuse the row that was read last."""
        raise UsageError(f"{self.name}:{self._rows.line_num}: {problem}")

    def __iter__(self) -> Iterator[dict[str, str]]:
        """Values by column."""
        while (row := self._next()) is not None:
            if row and len(row) != len(self.columns):
                self.fail(f"it has {len(row)} values for {len(self.columns)} columns")
            if row:
                yield dict(zip(self.columns, row, strict=True))

    def _next(self) -> list[str] | None:
        try:
            return next(self._rows, None)
        except csv.Error as error:
            self.fail(f"not CSV: {error}")


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, with their ends, one at a time.

    Raises UsageError, with the line, for what is no text; OSError passes through.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
            if len(line) == LONGEST_LINE:
                raise UsageError(f"{path}:{number}: a line of over {LONGEST_LINE} bytes: no table")
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UsageError(f"{path}:{number}: is not UTF-8 text") from error
