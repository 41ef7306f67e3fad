"""Printing for people, and progress by stage."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from rich.console import Console, RenderableType
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
from rich.text import Text

from erasepro_convert.cli.column_widths import UNLIMITED, fit, natural_width
from erasepro_convert.cli.time_left import TimeLeft
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
COUNTED = ("check", "vocabulary", "train", "erase", "lora", "verify")
"""Stages that count something else than bytes."""
SHARED = ("language", "probe")
"""Stages of which only the share that is done means anything."""
LINE = 2000
"""The most characters of a text from a file that may be hostile."""
ROOM_FOR_BAR = 80
"""The width of a terminal from which a bar stands beside the names of files."""
MARKS = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "")}
"""The mark and the colour of a check by whether it held; None is no limit, or not checked."""
PLAIN = str.maketrans(
    {"✓": "+", "✗": "x", "→": ">", "…": "~", "–": "-", "×": "x", "█": "#", "▏": "|"}
)
"""What stands for our signs where a stream's encoding lacks some; a line gets no longer by it."""
SHOWN_EVERY = 0.1
"""Seconds after which a bar moves again, as often as it is drawn."""


class _StageBars(Progress):
    """A bar for each stage that has begun, and below them the time so far and the time left."""

    def __init__(self, console: Console, time_left: TimeLeft) -> None:
        columns = (
            TextColumn("{task.description:<18}"),
            BarColumn(),
            TextColumn("{task.fields[amount]}"),
        )
        self._time_left = time_left
        self._shown_at: dict[str, float] = {}
        super().__init__(*columns, console=console, transient=True)
        self._of_stage = {
            stage: self.add_task(text, total=None, start=False, visible=False, amount="")
            for stage, text in STAGES.items()
        }

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the bars and the line below them, as rich asks for ten times a second."""
        yield from super().get_renderables()
        so_far = f"{_clock(time.monotonic() - self._time_left.began)} so far"
        left = self._time_left.left()
        yield Text(f"{so_far}, about {_clock(left)} left" if left and left >= 1 else so_far, "dim")

    def report(self, stage: str, done: int, total: int) -> None:
        """Show how far a stage has come; a note may follow it."""
        stage, _, note = stage.partition(": ")
        self._time_left.report(stage, done, total)
        now = time.monotonic()
        if 0 < done < total and now - self._shown_at.get(stage, 0.0) < SHOWN_EVERY:
            return
        self._shown_at[stage] = now
        if stage in SHARED:
            amount = f"{done / total:.0%}"
        elif stage in COUNTED:
            amount = f"{done}/{total}"
        else:
            amount = f"{decimal(done)} of {decimal(total)}"
        amount += f", {note}" if note else ""
        task = self._of_stage[stage]
        self.start_task(task)
        self.update(task, completed=done, total=total, visible=True, amount=amount)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"


class Terminal:
    """Prints for people; ``quiet`` prints nothing, ``to_stderr`` leaves standard output alone."""

    def __init__(self, *, quiet: bool, to_stderr: bool) -> None:
        self._console = Console(stderr=to_stderr, quiet=quiet, highlight=False)
        if not self._console.is_terminal:
            self._console.width = UNLIMITED
        self._is_unicode = _can_write(self._console.encoding)

    @property
    def is_interactive(self) -> bool:
        """Whether the output goes to a terminal and is not quiet."""
        return self._console.is_terminal and not self._console.quiet

    @contextmanager
    def progress(
        self, expected: Mapping[str, float] = MappingProxyType({})
    ) -> Iterator[Callable[[str, int, int], None]]:
        """Give a callback that moves a bar for each stage; without a terminal there are no bars.

        Below the bars stand the time so far, which goes on whatever happens, and the time left.
        ``expected`` are the seconds that stages are expected to take, where that is known.
        """
        if not self.is_interactive:
            yield silent
            return
        with _StageBars(self._console, TimeLeft(expected)) as bars:
            yield bars.report

    @contextmanager
    def steps(self, unit: str = "steps") -> Iterator[Callable[[str, int, int], None]]:
        """Give a callback that moves one bar through many steps, with the time that is left."""
        columns = (
            TextColumn("{task.description}", table_column=Column(overflow="fold")),
            *([BarColumn()] if self._console.width >= ROOM_FOR_BAR else []),
            TextColumn("{task.fields[amount]}"),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(elapsed_when_finished=False),
        )
        with self._bars(*columns, transient=True) as bars:
            task = bars.add_task("loading", total=None, amount="")

            def update(text: str, done: int, total: int) -> None:
                amount = f"{done}/{total} {unit}"
                bars.update(
                    task, description=escape(text), completed=done, total=total, amount=amount
                )

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
        """Print one line without markup, with what the stream's encoding has for each character."""
        encoding = self._console.encoding
        if not self._is_unicode:
            line = line.translate(PLAIN).encode(encoding, "backslashreplace").decode(encoding)
        self._console.print(Text(line, style), soft_wrap=True)


def _can_write(encoding: str) -> bool:
    try:
        "".join(map(chr, PLAIN)).encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
