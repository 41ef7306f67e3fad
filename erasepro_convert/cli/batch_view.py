"""What a person sees of a batch: a live table on a terminal, a line for each file elsewhere."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import get_args

from rich.console import Console, RenderableType
from rich.filesize import decimal
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from erasepro_convert.batch.fingerprint import state
from erasepro_convert.batch.jobs import Job
from erasepro_convert.batch.ledger import LEDGER, Entry, Outcome
from erasepro_convert.batch.local import STAGES, Progress
from erasepro_convert.batch.summary import SUMMARY
from erasepro_convert.batch.work import Task
from erasepro_convert.checkpoint.names import printable
from erasepro_convert.errors import StorageError

BAR = 28
LONGEST = 2000
"""Characters of a reason."""
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

    def __init__(self, jobs: Sequence[Job], *, quiet: bool) -> None:
        self._console = Console(quiet=quiet, highlight=False)
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
            get_renderable=self._render,
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
        name = printable(entry.output)
        said = [entry.outcome.ljust(8), name, "as before" if before else f"{entry.seconds:.1f} s"]
        if entry.same_as:
            said.append(f"same as {printable(entry.same_as)}")
        if figures := entry.figures:
            said.append(f"leak up to {figures.leak:.2f}, drift up to {figures.drift:.2f}")
        if entry.reason:
            said.append(printable(" ".join(entry.reason.split()), LONGEST))
        return f"{number} " + "  ".join(said)

    def close(self, folder: Path) -> None:
        """The last lines: how many of each, and where the rest stands."""
        seconds = _duration(monotonic() - self._started)
        counts = [f"{self.counts[o]} {o}" for o in get_args(Outcome) if self.counts[o]]
        if left := self._total - self.counts.total():
            counts.append(f"{left} not begun")
        before = f" ({self.before} of them before)" if self.before else ""
        self._say(f"{_files(self._total)}: {', '.join(counts)}{before}, in {seconds}")
        self._say(f"records: {folder / LEDGER}, {folder / SUMMARY}")

    def _say(self, line: str, style: str = "") -> None:
        self._console.print(escape(line), style=style, soft_wrap=True)

    def _render(self) -> RenderableType:
        working = list(self._watch())
        known = self.counts.total()
        table = Table.grid(padding=(0, 2))
        table.add_row(
            f"[bold]{known}/{self._total} files",
            ProgressBar(total=self._total, completed=known, width=BAR),
            f"left: {self._remaining(working)}",
            ", ".join(f"{count} {outcome}" for outcome, count in self.counts.items()),
        )
        for task, at in working[:ROWS]:
            table.add_row(
                escape(printable(task.output)),
                ProgressBar(total=at.to_write, completed=at.written, width=BAR)
                if at.to_write
                else "",
                f"{decimal(at.written)} of {decimal(at.to_write)}" if at.to_write else "",
                f"{WORDS[STAGES[at.stage]]} {at.done}/{at.total}" if at.done < at.total else "",
            )
        if len(working) > ROWS:
            table.add_row(f"and {len(working) - ROWS} more")
        return table

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


def _files(count: int) -> str:
    return f"{count} file{'s' * (count != 1)}"


def _duration(seconds: float) -> str:
    """In the two largest units: 1 h 20 min, 3 min 5 s, 12 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
