"""The display of a batch: a live table on a terminal, a line for each file elsewhere."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import get_args

import click
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.filesize import decimal
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from erasepro_convert.batch.fingerprint import file_state
from erasepro_convert.batch.inputs import PassedOver, describe_passed_over
from erasepro_convert.batch.jobs import LONGEST_PATH, Job
from erasepro_convert.batch.ledger import LEDGER, Entry, Outcome
from erasepro_convert.batch.process_pool import STAGES, Progress
from erasepro_convert.batch.summary import SUMMARY
from erasepro_convert.batch.worker import Task
from erasepro_convert.errors import StorageError
from erasepro_convert.runtime.hashing import pretty_json
from erasepro_convert.runtime.printable import printable
from erasepro_convert.runtime.wording import counted, duration_text

BAR_WIDTH, LEAST_BAR_WIDTH = 28, 6
"""The greatest and the least width of a bar, in characters."""
LINE_WIDTH, SHORTEST_REASON = 200, 60
"""The width of a file's line, and the room that its reason gets however long the names are."""
GAP = 2
"""Characters between two columns."""
SHOWN_TASKS = 16
"""How many running files are shown: a cluster may have hundreds."""
STAGE_VERBS = {
    "erase": "erasing",
    "probe": "probing",
    "language": "reading words",
    "train": "training",
}
STYLES = {"refused": "yellow", "exceeded": "yellow", "failed": "red"}
SIZE_REQUESTS = 8
"""How many inputs are asked for their sizes at once."""
LEAST_SHARE = 0.3
"""The share of the running files that must be done, while none is finished, before the time left is
estimated."""

ReadProgress = Callable[[], Iterable[tuple[Task, Progress]]]


class BatchView:
    """Counts the outcomes of jobs, and shows them."""

    def __init__(
        self,
        jobs: Sequence[Job],
        passed_over: PassedOver = MappingProxyType({}),
        *,
        quiet: bool,
        as_json: bool = False,
    ) -> None:
        """Ask for the sizes of all inputs; ``passed_over`` are files that are not converted.

        ``quiet`` shows nothing; ``as_json`` prints how each job ended to standard output, and the
        rest to standard error.
        """
        self._console = Console(quiet=quiet, stderr=as_json, highlight=False)
        self._as_json = as_json
        self._entries: list[Entry] = []
        self._passed_over = passed_over
        with ThreadPoolExecutor(SIZE_REQUESTS) as threads:  # a store answers slowly
            self._input_sizes = dict(threads.map(_output_and_input_size, jobs))
        self._bytes_to_convert = sum(self._input_sizes.values())
        self._bytes_converted = 0
        self._total = len(jobs)
        self._started = monotonic()
        self._read_progress: ReadProgress = _nothing_runs
        self.counts: Counter[str] = Counter()
        """The number of jobs with each outcome."""
        self.already_done = 0
        """How many of these jobs an earlier batch or another one had done."""
        self._live = Live(
            console=self._console,
            get_renderable=lambda: self,
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> "BatchView":
        if self._console.is_terminal and not self._console.quiet:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def watch(self, read_progress: ReadProgress) -> None:
        """Set the function that gives each running job's progress."""
        self._read_progress = read_progress

    def began(self, job: Job) -> None:
        """Do nothing: the live table shows running jobs anyway."""

    def ended(self, job: Job, entry: Entry, *, already_done: bool) -> None:
        """Count a job that has ended, and print its line."""
        size = self._input_sizes[job.output]
        self._entries.append(entry)
        self.counts[entry.outcome] += 1
        self.already_done += already_done
        if already_done or entry.outcome != "done":
            self._bytes_to_convert -= size  # it says nothing about how long the others take
        else:
            self._bytes_converted += size
        if already_done and self._console.is_terminal and entry.outcome not in STYLES:
            return
        self._print(self._line(entry, already_done=already_done), STYLES.get(entry.outcome, ""))

    def _line(self, entry: Entry, *, already_done: bool) -> str:
        """Return the line of a job that has ended: its number, output, time and result."""
        number = f"[{self.counts.total():>{len(str(self._total))}}/{self._total}]"
        name = printable(entry.output, LONGEST_PATH)
        time = "as before" if already_done else f"{entry.seconds:.1f} s"
        parts = [entry.outcome.ljust(8), name, time]
        if entry.same_as:
            parts.append(f"same as {printable(entry.same_as, LONGEST_PATH)}")
        if figures := entry.figures:
            parts.append(f"leak up to {figures.leak:.2f}, drift up to {figures.drift:.2f}")
        if entry.reason:
            room = LINE_WIDTH - len(f"{number} {'  '.join([*parts, ''])}…")
            parts.append(printable(_first_sentence(entry.reason), max(SHORTEST_REASON, room)))
        return f"{number} " + "  ".join(parts)

    def print_summary(self, records: Path) -> None:
        """Print the last lines: the number of each outcome, and the files in ``records``.

        As JSON: the entries of the record in the order of their outputs' names.
        """
        duration = duration_text(monotonic() - self._started)
        counts = [f"{self.counts[o]} {o}" for o in get_args(Outcome) if self.counts[o]]
        if not_begun := self._total - self.counts.total():
            counts.append(f"{not_begun} not begun")
        if passed_over := sum(map(len, self._passed_over.values())):
            counts.append(f"{passed_over} passed over")
        earlier = f" ({self.already_done} of them before)" if self.already_done else ""
        self._print(f"{counted(self._total, 'file')}: {', '.join(counts)}{earlier}, in {duration}")
        if passed_over:
            self._print(f"passed over: {describe_passed_over(self._passed_over)}")
        self._print(f"records: {records / LEDGER}, {records / SUMMARY}")
        if self._as_json:
            entries = sorted(self._entries, key=lambda entry: entry.output)
            click.echo(pretty_json([entry.model_dump(mode="json") for entry in entries]), nl=False)

    def _print(self, line: str, style: str = "") -> None:
        """Print a line, wrapped only on a terminal."""
        text = Text(line, style=style, overflow="fold" if self._console.is_terminal else None)
        self._console.print(text, soft_wrap=not self._console.is_terminal)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give the live table; where the terminal is narrow, bars are left out first."""
        running = list(self._read_progress())
        ended = self.counts.total()
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items())
        total = [f"{ended}/{self._total} files", f"left: {self._time_left(running)}", counts]
        if _room_for_bar([total], options.max_width) >= LEAST_BAR_WIDTH:
            yield _with_bars([total], [(self._total, ended)], options.max_width)
        else:
            yield Text((" " * GAP).join(filter(None, total)), overflow="fold")
        shown = running[:SHOWN_TASKS]
        rows = [
            [printable(task.output, LONGEST_PATH), *_format_progress(progress)]
            for task, progress in shown
        ]
        if rows:
            amounts = [(progress.to_write, progress.written) for _, progress in shown]
            yield _with_bars(rows, amounts, options.max_width)
        if len(running) > SHOWN_TASKS:
            yield Text(f"and {len(running) - SHOWN_TASKS} more")

    def _time_left(self, running: Sequence[tuple[Task, Progress]]) -> str:
        """Estimate the time left from the time that the bytes converted so far took."""
        partly_converted = [
            self._input_sizes[task.output] * progress.written / progress.to_write
            for task, progress in running
            if progress.to_write
        ]
        converted = self._bytes_converted + sum(partly_converted)
        running_bytes = sum(self._input_sizes[task.output] for task, _ in running)
        is_first_round = not self._bytes_converted
        if not converted or (is_first_round and converted < LEAST_SHARE * running_bytes):
            return "not known yet"
        elapsed = monotonic() - self._started
        return duration_text(elapsed * max(0, self._bytes_to_convert - converted) / converted)


def _nothing_runs() -> Iterable[tuple[Task, Progress]]:
    """Give no running task: this is so until an executor is watched."""
    return ()


def _output_and_input_size(job: Job) -> tuple[str, int]:
    """Return a job's output with the bytes of its input; an input that cannot be read has none."""
    try:
        return job.output, file_state(job.source)[0]
    except (OSError, StorageError):
        return job.output, 0  # its worker will report what is wrong with it


def _room_for_bar(rows: Sequence[Sequence[str]], width: int) -> int:
    """Return the width that is left for a bar beside these columns."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return min(BAR_WIDTH, width - sum(widths) - len(widths) * GAP)


def _with_bars(
    rows: Sequence[Sequence[str]], amounts: Iterable[tuple[int, int]], width: int
) -> Table:
    """Return a table of rows with a bar after the first column, where there is room for one.

    ``amounts`` has the total and the done amount of each row.  The first column wraps if it must.
    """
    bar_width = _room_for_bar(rows, width)
    has_room = bar_width >= LEAST_BAR_WIDTH
    table = Table.grid(padding=(0, GAP, 0, 0))
    table.add_column(overflow="fold")
    if has_room:
        table.add_column(width=bar_width)
    for _ in rows[0][1:]:
        table.add_column(no_wrap=True)
    for (first, *rest), (total, done) in zip(rows, amounts, strict=True):
        bar = ProgressBar(total=total, completed=done) if total else ""
        bars = [bar] if has_room else []
        table.add_row(Text(first), *bars, *map(Text, rest))
    return table


def _format_progress(progress: Progress) -> tuple[str, str]:
    """Format how much of a file is written, and how much of its stage is done."""
    stage, done, total, written, to_write = progress
    size_text = f"{decimal(written)} of {decimal(to_write)}" if to_write else ""
    stage_text = f"{STAGE_VERBS[STAGES[stage]]} {done}/{total}" if done < total else ""
    return size_text, stage_text


def _first_sentence(reason: str) -> str:
    """Return the first sentence of a reason; the record has all of it."""
    first = re.split(r"(?<=[^.][.?!]) |\n", reason.strip(), maxsplit=1)[0]
    return " ".join(first.split())
