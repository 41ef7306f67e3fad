"""A CSV file with named columns, read row by row; mistakes are reported with their line."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from erasepro_convert.errors import UsageError

LONGEST_LINE = 1 << 20
"""The longest line in bytes.  A longer one means that the file is no CSV, and may be all of it."""


class CsvReader:
    """Iterates once over the rows of a CSV text with named columns.

    Raises UsageError, with the line, where the text is not CSV.
    """

    def __init__(self, lines: Iterable[str], name: Path | str) -> None:
        """Read the header.  ``lines`` keep their line ends, which quoted values may contain."""
        self.path = Path(name)
        self._rows = csv.reader(lines, strict=True)
        self.columns = self._next() or []

    def require(self, columns: Iterable[str]) -> None:
        """Raise UsageError where one of these columns is missing."""
        if missing := [column for column in columns if column not in self.columns]:
            raise UsageError(
                f"{self.path}: it has no column {missing[0]}; needed are {', '.join(columns)}"
            )

    @property
    def place(self) -> str:
        """The line, after a colon, at which the row that was read last ends."""
        return f":{self._rows.line_num}"

    def fail(self, problem: str) -> NoReturn:
        """Raise UsageError that names the line of the row read last."""
        raise UsageError(f"{self.path}{self.place}: {problem}")

    def __iter__(self) -> Iterator[dict[str, str]]:
        """Give each row as a dictionary from column to value."""
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


def read_lines(path: Path) -> Iterator[str]:
    """Give the lines of a UTF-8 file, with their line ends, one at a time.

    Raises UsageError, with the line, where the file is no text; OSError passes through.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
            if len(line) == LONGEST_LINE:
                raise UsageError(f"{path}:{number}: a line of over {LONGEST_LINE} bytes: no table")
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UsageError(f"{path}:{number}: is not UTF-8 text") from error
