"""What the page has done: one job at a time, whether or not somebody looks on."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from types import MappingProxyType
from typing import Any, Literal

from erasepro_convert.runtime.progress import Progress

State = Literal["waiting", "running", "done", "failed", "cancelled"]
Work = Callable[[Progress], Any]

NOTHING_ASKED: Mapping[str, Any] = MappingProxyType({})


class CancelledError(Exception):
    """The user has cancelled the job."""


@dataclass
class Job:
    """A piece of work, and how far it has come.

    ``kind`` says which part of the page it is of, ``request`` what the user entered.  ``stage``,
    ``done`` and ``total`` are what the work last reported, ``since`` the time at which this stage
    began (``time.monotonic``).  ``result`` is what the work returned, ``error`` what it raised.
    """

    number: int
    kind: str
    title: str
    work: Work = field(repr=False)
    request: Mapping[str, Any]
    state: State = "waiting"
    stage: str = ""
    done: int = 0
    total: int = 0
    since: float = 0.0
    is_cancelled: bool = False
    result: Any = None
    error: Exception | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ("done", "failed", "cancelled")


class Jobs:
    """A queue of jobs with one thread that does them, and all jobs of this process."""

    def __init__(self) -> None:
        """Start the thread."""
        self._jobs: list[Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self.revision = 0
        """Grows with every change of any job."""
        self._thread = threading.Thread(target=self._run, name="jobs")
        self._thread.start()

    def submit(
        self, kind: str, title: str, work: Work, request: Mapping[str, Any] = NOTHING_ASKED
    ) -> Job:
        """Have some work done after all that was submitted before; it is given a progress."""
        with self._changed:
            job = Job(len(self._jobs) + 1, kind, title, work, request)
            self._jobs.append(job)
            self._note_change()
        return job

    def get(self, number: int) -> Job | None:
        """Return the job with a number; None where there is none."""
        return next((job for job in self.all() if job.number == number), None)

    def all(self) -> list[Job]:
        """Return all jobs, in the order in which they were submitted."""
        with self._changed:
            return list(self._jobs)

    def open(self) -> list[Job]:
        """Return the jobs that are not over: the running one, then those that wait."""
        return [job for job in self.all() if not job.is_over]

    def latest(self, kind: str) -> Job | None:
        """Return the job of a kind that was submitted last."""
        return next((job for job in reversed(self.all()) if job.kind == kind), None)

    def cancel(self, number: int) -> None:
        """Cancel a job that waits or runs; one that is over stays as it is."""
        with self._changed:
            for job in self._jobs:
                if job.number == number and not job.is_over:
                    job.is_cancelled = True
                    if job.state == "waiting":
                        job.state = "cancelled"
            self._note_change()

    def close(self) -> None:
        """Cancel all jobs, and return when nothing is running any more."""
        for job in self.open():
            self.cancel(job.number)
        with self._changed:
            self._closed = True
            self._note_change()
        self._thread.join()

    def _run(self) -> None:
        while job := self._next():
            try:
                job.result = job.work(self._progress(job))
                state: State = "done"
            except CancelledError:
                state = "cancelled"
            except Exception as error:  # the page shows it beside its field
                job.error, state = error, "failed"
            with self._changed:
                job.state = state
                self._note_change()

    def _next(self) -> Job | None:
        """Wait for a job and let it begin; None where the queue was closed."""
        with self._changed:
            while True:
                if self._closed:
                    return None
                for job in self._jobs:
                    if job.state == "waiting":
                        job.state, job.since = "running", monotonic()
                        self._note_change()
                        return job
                self._changed.wait()

    def _progress(self, job: Job) -> Progress:
        def report(stage: str, done: int, total: int) -> None:
            if job.is_cancelled:
                raise CancelledError
            with self._changed:
                stage = stage.partition(":")[0]
                if stage != job.stage:
                    job.stage, job.since = stage, monotonic()
                job.done, job.total = done, total
                self._note_change()

        return report

    def _note_change(self) -> None:
        self.revision += 1
        self._changed.notify_all()
