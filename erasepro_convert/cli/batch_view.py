"""What a person sees of a batch: a live table on a terminal, a line for each file elsewhere."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import get_args

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.filesize import decimal
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from erasepro_convert.batch.fingerprint import state
from erasepro_convert.batch.inputs import PassedOver, described
from erasepro_convert.batch.jobs import LONGEST_PATH, Job
from erasepro_convert.batch.ledger import LEDGER, Entry, Outcome
from erasepro_convert.batch.process_pool import STAGES, Progress
from erasepro_convert.batch.summary import SUMMARY
from erasepro_convert.batch.worker import Task
from erasepro_convert.errors import StorageError
from erasepro_convert.runtime.printable import printable

BAR, SHORTEST_BAR = 28, 6
"""Columns of a bar: as many as it takes at most, and as few as still show anything."""
LINE, SHORTEST_REASON = 200, 60
"""Characters of a file's line, and those that its reason may take however long the names are."""
GAP = 2
"""Columns between two things."""
ROWS = 16
"""Files at work that are shown: a cluster may have hundreds."""
WORDS = {"erase": "erasing", "probe": "probing", "tune": "trying", "train": "training"}
STYLES = {"refused": "yellow", "exceeded": "yellow", "failed": "red"}
LOOKS = 8
"""Inputs whose sizes are asked for at once."""
ENOUGH = 0.3
"""Part of the first files that must be done before a remaining time is ventured."""

Watch = Callable[[], Iterable[tuple[Task, Progress]]]


class BatchView:
    """Counts what becomes of each job, and shows it."""

    def __init__(
        self,
        jobs: Sequence[Job],
        passed_over: PassedOver = MappingProxyType({}),
        *,
        quiet: bool,
    ) -> None:
        """``passed_over`` is what was found beside the jobs' inputs and is none."""
        self._console = Console(quiet=quiet, highlight=False)
        self._passed_over = passed_over
        with ThreadPoolExecutor(LOOKS) as threads:  # a store takes its time for each answer
            self._sizes = dict(threads.map(_size, jobs))
        self._todo = sum(self._sizes.values())
        self._total = len(jobs)
        self._done = 0
        self._started = monotonic()
        self._watch: Watch = tuple
        self.counts: Counter[str] = Counter()
        """Jobs by outcome."""
        self.before = 0
        """Those of which it was known already."""
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

    def watch(self, progress: Watch) -> None:
        """Look there for how far each job is."""
        self._watch = progress

    def began(self, job: Job) -> None:
        """A job went to a worker: the table will show it."""

    def ended(self, job: Job, entry: Entry, *, before: bool) -> None:
        """It is known what became of a job."""
        size = self._sizes[job.output]
        self.counts[entry.outcome] += 1
        self.before += before
        if before or entry.outcome != "done":
            self._todo -= size  # it says nothing about how long the others take
        else:
            self._done += size
        if before and self._console.is_terminal and entry.outcome not in STYLES:
            return
        self._say(self._line(entry, before), STYLES.get(entry.outcome, ""))

    def _line(self, entry: Entry, before: bool) -> str:
        number = f"[{self.counts.total():>{len(str(self._total))}}/{self._total}]"
        name = printable(entry.output, LONGEST_PATH)
        said = [entry.outcome.ljust(8), name, "as before" if before else f"{entry.seconds:.1f} s"]
        if entry.same_as:
            said.append(f"same as {printable(entry.same_as, LONGEST_PATH)}")
        if figures := entry.figures:
            said.append(f"leak up to {figures.leak:.2f}, drift up to {figures.drift:.2f}")
        if entry.reason:
            room = LINE - len(f"{number} {'  '.join([*said, ''])}…")
            said.append(printable(_short(entry.reason), max(SHORTEST_REASON, room)))
        return f"{number} " + "  ".join(said)

    def close(self, folder: Path) -> None:
        """The last lines: how many of each, and where the rest stands."""
        seconds = _duration(monotonic() - self._started)
        counts = [f"{self.counts[o]} {o}" for o in get_args(Outcome) if self.counts[o]]
        if left := self._total - self.counts.total():
            counts.append(f"{left} not begun")
        before = f" ({self.before} of them before)" if self.before else ""
        passed = sum(map(len, self._passed_over.values()))
        counts += [f"{passed} passed over"] if passed else []
        self._say(f"{_files(self._total)}: {', '.join(counts)}{before}, in {seconds}")
        if passed:
            self._say(f"passed over: {described(self._passed_over)}")
        self._say(f"records: {folder / LEDGER}, {folder / SUMMARY}")

    def _say(self, line: str, style: str = "") -> None:
        """Print a line: wrapped for a terminal, as it is for anything else."""
        text = Text(line, style=style, overflow="fold" if self._console.is_terminal else None)
        self._console.print(text, soft_wrap=not self._console.is_terminal)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The live table, for a terminal of any width: names and figures go before bars."""
        working = list(self._watch())
        known = self.counts.total()
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items())
        said = [f"{known}/{self._total} files", f"left: {self._remaining(working)}", counts]
        if _room_for_bar([said], options.max_width) >= SHORTEST_BAR:
            yield _barred([said], [(self._total, known)], options.max_width)
        else:
            yield Text((" " * GAP).join(filter(None, said)), overflow="fold")
        first = working[:ROWS]
        rows = [[printable(task.output, LONGEST_PATH), *_amounts(at)] for task, at in first]
        if rows:
            yield _barred(rows, [(at.to_write, at.written) for _, at in first], options.max_width)
        if len(working) > ROWS:
            yield Text(f"and {len(working) - ROWS} more")

    def _remaining(self, working: Iterable[tuple[Task, Progress]]) -> str:
        """The time left, if the bytes still to do take as long as those done so far did."""
        begun = [
            self._sizes[task.output] * at.written / at.to_write
            for task, at in working
            if at.to_write
        ]
        done = self._done + sum(begun)
        if not self._done and done < ENOUGH * sum(self._sizes[task.output] for task, _ in working):
            return "not known yet"
        return _duration((monotonic() - self._started) * max(0, self._todo - done) / (done or 1))


def _size(job: Job) -> tuple[str, int]:
    try:
        return job.output, state(job.source)[0]
    except (OSError, StorageError):
        return job.output, 0  # its worker will say what is wrong with it


def _room_for_bar(rows: Sequence[Sequence[str]], width: int) -> int:
    """What is left of a terminal's width for a bar beside these columns."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return min(BAR, width - sum(widths) - len(widths) * GAP)


def _barred(rows: Sequence[Sequence[str]], amounts: Iterable[tuple[int, int]], width: int) -> Table:
    """Rows of text with a bar after the first column, where there is room for one.

    ``amounts`` are those in all and those done, of each row.  The first column takes several lines
    where it must.
    """
    bar = _room_for_bar(rows, width)
    table = Table.grid(padding=(0, GAP, 0, 0))
    table.add_column(overflow="fold")
    if bar >= SHORTEST_BAR:
        table.add_column(width=bar)
    for _ in rows[0][1:]:
        table.add_column(no_wrap=True)
    for (first, *rest), (total, done) in zip(rows, amounts, strict=True):
        drawn = ProgressBar(total=total, completed=done) if total else ""
        bars = [drawn] if bar >= SHORTEST_BAR else []
        table.add_row(Text(first), *bars, *map(Text, rest))
    return table


def _amounts(at: Progress) -> tuple[str, str]:
    """How much of a file is written, and what is done of the stage that it is in."""
    size = f"{decimal(at.written)} of {decimal(at.to_write)}" if at.to_write else ""
    stage = f"{WORDS[STAGES[at.stage]]} {at.done}/{at.total}" if at.done < at.total else ""
    return size, stage


def _short(reason: str) -> str:
    """The first sentence; all of it stands in the record."""
    first = re.split(r"(?<=[^.][.?!]) |\n", reason.strip(), maxsplit=1)[0]
    return " ".join(first.split())


def _files(count: int) -> str:
    return f"{count} file{'s' * (count != 1)}"


def _duration(seconds: float) -> str:
    """In the two largest units: 1 h 20 min, 3 min 5 s, 12 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
