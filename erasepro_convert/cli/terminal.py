"""Printing for people, and progress by stage."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

from erasepro_convert.cli.column_widths import UNLIMITED, fit, natural_width
from erasepro_convert.runtime.progress import silent

STAGES = {
    "check": "checking tensors",
    "vocabulary": "reading the vocabulary",
    "language": "reading common words",
    "train": "training",
    "erase": "erasing matrices",
    "lora": "making the LoRA",
    "probe": "probing",
    "hash": "hashing the input",
    "write": "writing",
    "verify": "comparing tensors",
}
COUNTED = ("check", "vocabulary", "language", "train", "erase", "lora", "probe", "verify")
"""Stages that count something else than bytes."""
LINE = 2000
"""The most characters of a text from a file that may be hostile."""
ROOM_FOR_BAR = 80
"""The width of a terminal from which a bar stands beside the names of files."""
SHOWN_EVERY = 0.1
"""Seconds after which a bar moves again, as often as it is drawn."""


class Terminal:
    """Prints for people; ``quiet`` prints nothing, ``to_stderr`` leaves standard output alone."""

    def __init__(self, *, quiet: bool, to_stderr: bool) -> None:
        self._console = Console(stderr=to_stderr, quiet=quiet, highlight=False)
        if not self._console.is_terminal:
            self._console.width = UNLIMITED

    @property
    def is_interactive(self) -> bool:
        """Whether the output goes to a terminal and is not quiet."""
        return self._console.is_terminal and not self._console.quiet

    @contextmanager
    def progress(self) -> Iterator[Callable[[str, int, int], None]]:
        """Give a callback that moves a bar for each stage; without a terminal there are no bars."""
        if not self.is_interactive:
            yield silent
            return
        columns = (
            TextColumn("{task.description:<18}"),
            BarColumn(),
            TextColumn("{task.fields[amount]}"),
            TimeRemainingColumn(),
        )
        with self._bars(*columns) as bars:
            tasks = {
                stage: bars.add_task(text, total=None, start=False, visible=False, amount="")
                for stage, text in STAGES.items()
            }

            shown: dict[str, float] = {}

            def update(stage: str, done: int, total: int) -> None:
                now = time.monotonic()
                if done < total and now - shown.get(stage, 0.0) < SHOWN_EVERY:
                    return
                shown[stage] = now
                stage, _, note = stage.partition(": ")
                task = tasks[stage]
                bars.start_task(task)
                amount = (
                    f"{done}/{total}"
                    if stage in COUNTED
                    else f"{decimal(done)} of {decimal(total)}"
                )
                amount += f", {note}" if note else ""
                bars.update(task, completed=done, total=total, visible=True, amount=amount)

            yield update

    @contextmanager
    def steps(self, unit: str = "steps") -> Iterator[Callable[[str, int, int], None]]:
        """Give a callback that moves one bar through many steps, with the time that is left."""
        columns = (
            TextColumn("{task.description}", table_column=Column(overflow="fold")),
            *([BarColumn()] if self._console.width >= ROOM_FOR_BAR else []),
            TextColumn(f"{{task.completed}}/{{task.total}} {unit}"),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(elapsed_when_finished=False),
        )
        with self._bars(*columns, transient=True) as bars:
            task = bars.add_task("loading", total=None)

            def update(text: str, done: int, total: int) -> None:
                bars.update(task, description=escape(text), completed=done, total=total)

            yield update

    def _bars(self, *columns: ProgressColumn, transient: bool = False) -> Progress:
        """Return bars on the terminal, or bars that print nothing where there is none."""
        seen = self.is_interactive
        # Before 14.3, rich ends even disabled bars with an empty line: these need a mute console.
        console = self._console if seen else Console(quiet=True)
        return Progress(*columns, console=console, disable=not seen, transient=transient)

    def room_beside(self, table: Table) -> int:
        """Return the width left beside a table on the terminal; 0 where there is no terminal."""
        if not self.is_interactive:
            return 0
        return self._console.width - natural_width(table, self._console)

    def show(self, table: Table) -> None:
        """Print a table at its natural width, but wrap its cells on a narrow terminal."""
        if self._console.is_terminal:
            fit(table, self._console)
            self._console.print(table, crop=False)
            return
        with self._console.capture() as captured:
            self._console.print(table)
        for line in captured.get().removesuffix("\n").split("\n"):
            self.say(line.rstrip())  # the last column would be padded to its longest text

    def say(self, line: str, style: str = "") -> None:
        """Print one line without markup."""
        self._console.print(escape(line), style=style, soft_wrap=True)
