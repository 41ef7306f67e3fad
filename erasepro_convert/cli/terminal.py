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
    Task,
    TextColumn,
)
from rich.table import Table
from rich.text import Text

from erasepro_convert.cli.column_widths import UNLIMITED, fit, natural_width
from erasepro_convert.cli.line_breaks import wrapped
from erasepro_convert.cli.time_left import TimeLeft
from erasepro_convert.runtime.printable import harmless, printable
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
UNCOUNTABLE = 100_000
"""Steps from which on a share says more than their number; they may be bytes."""
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


class _StepBar(Progress):
    """A line on what is done, and below it a bar through all steps, with the time and what is left.

    Names of files and figures are whole on a line of their own, and the bar keeps its length.
    """

    def __init__(self, console: Console, unit: str) -> None:
        self._text = "loading"
        super().__init__(
            BarColumn(),
            TextColumn("{task.fields[amount]}"),
            _TimesColumn(),
            console=console,
            transient=True,
        )
        self._unit = unit
        self._task = self.add_task("", total=None, amount="")

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the text and the bar, as rich asks for ten times a second."""
        yield Text(self._text, no_wrap=True, overflow="ellipsis")
        yield from super().get_renderables()

    def report(self, text: str, done: int, total: int) -> None:
        """Show how far something has come."""
        self._text = printable(text, LINE)
        amount = f"{done}/{total} {self._unit}" if total < UNCOUNTABLE else f"{done / total:.0%}"
        self.update(self._task, completed=done, total=total, amount=amount)


class _TimesColumn(ProgressColumn):
    """The time so far, and the time left where steps have shown how long they take."""

    def render(self, task: Task) -> Text:
        """Return both as text."""
        left = task.time_remaining
        so_far = _clock(task.elapsed or 0.0)
        return Text(f"{so_far}, about {_clock(left)} left" if left else so_far)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"


def cell(text: str) -> str:
    """Return a text of others as the cell of a table: neither markup nor orders to a terminal."""
    return escape(printable(text, LINE))


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
        """Give a callback that moves one bar through many steps, on a terminal."""
        if not self.is_interactive:
            yield silent
            return
        with _StepBar(self._console, unit) as bar:
            yield bar.report

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
        """Print a line without markup; a terminal gets it in several if it is too long for one.

        Nothing in it can be an order to the terminal, or begin another line.
        """
        line = harmless(line, kept="")
        if not self._is_unicode:
            encoding = self._console.encoding
            line = line.translate(PLAIN).encode(encoding, "backslashreplace").decode(encoding)
        if self._console.is_terminal:
            line = wrapped(line, self._console.width)
        self._console.print(Text(line, style), soft_wrap=True)


def _can_write(encoding: str) -> bool:
    try:
        "".join(map(chr, PLAIN)).encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
