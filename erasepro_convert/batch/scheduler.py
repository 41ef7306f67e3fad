"""The course of a batch: ready jobs go to an executor, and their results into the ledger."""

import shutil
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from erasepro_convert import __version__
from erasepro_convert.batch.jobs import Job
from erasepro_convert.batch.ledger import Entry, InputRecord, Ledger
from erasepro_convert.batch.locks import Locks, OutputLock
from erasepro_convert.batch.readiness import EqualityKey, JobPlanner, ReadyJob, unread_input
from erasepro_convert.batch.worker import DISK_FULL_ERRORS, Result, carry_out
from erasepro_convert.conversion.options import Options
from erasepro_convert.errors import StorageError, UsageError
from erasepro_convert.output.destinations import Inputs
from erasepro_convert.storage.listing import exists
from erasepro_convert.storage.location import Location

POLL_INTERVAL = 0.5
"""Seconds between looks at outputs that another batch has locked."""
STALE_OUTPUT = "what an earlier batch wrote there is of another input, recipe or version"
MAX_WORKER_DEATHS = 2
"""How many workers may die with a job before it is given up."""


class BatchObserver(Protocol):
    """Is told of each job that starts or ends."""

    def began(self, job: Job) -> None:
        """A job went to a worker."""

    def ended(self, job: Job, entry: Entry, *, already_done: bool) -> None:
        """A job has ended; ``already_done`` says that an earlier batch or another one did it."""


class Batch:
    """Jobs, an output folder, and the options that all jobs share."""

    def __init__(
        self,
        jobs: Sequence[Job],
        folder: Location,
        ledger: Ledger,
        options: Options,
        inputs: Inputs,
        observer: BatchObserver,
    ) -> None:
        """``options`` are those of every job; the name of an output says whether it is a folder.

        ``inputs`` is all that the batch reads, which no job may replace.
        """
        self._waiting = deque(jobs)
        self._locked_elsewhere: deque[Job] = deque()
        # Jobs that probably equal a running one wait for it, to be linked.
        self._waiting_for_equal: dict[EqualityKey, list[Job]] = {}
        # One of these jobs made its worker die; they run alone to find out which.
        self._suspects: deque[ReadyJob] = deque()
        self._running: dict[Future[Result], ReadyJob] = {}
        self._folder = folder
        self._is_local = isinstance(folder, Path)
        self._ledger = ledger
        self._locks = Locks(ledger.path.parent)
        self._planner = JobPlanner(folder, ledger, options, inputs)
        self._observer = observer
        self.disk_full = False
        """Whether there was no room left to write to."""

    def run(
        self,
        open_executor: Callable[[], Executor],
        at_once: int,
        waiting: Callable[[], None] | None = None,
    ) -> None:
        """Do the jobs, ``at_once`` of them at a time.

        ``waiting`` is called again and again meanwhile; what it raises ends the run.  An executor
        that broke is replaced by a new one.  However this ends, what is finished by then is in the
        ledger, and nothing is running any more.
        """
        executor = open_executor()
        try:
            while self._waiting or self._locked_elsewhere or self._suspects or self._running:
                executor_works = self.disk_full or self._submit_ready(executor, at_once)
                if executor_works and not self._running:
                    if self.disk_full:
                        return
                    time.sleep(POLL_INTERVAL)  # all remaining jobs are at work in another batch
                    continue
                if waiting:
                    waiting()
                timeout = POLL_INTERVAL if self._locked_elsewhere or waiting else None
                done, _ = wait(self._running, timeout, return_when=FIRST_COMPLETED)
                if not executor_works or any(_is_broken(future) for future in done):
                    done, _ = wait(self._running)  # running jobs failed with the executor
                    executor.shutdown()
                    executor = open_executor()
                for future in done:
                    self._collect(future)
        finally:
            executor.shutdown(cancel_futures=True)
            self._clean_up()

    def _submit_ready(self, executor: Executor, at_once: int) -> bool:
        """Submit jobs as long as there is room; return whether the executor still works."""
        while ready := self._next(at_once):
            try:
                future = executor.submit(carry_out, ready.task)
            except BrokenExecutor:
                self._suspects.append(ready)
                return False
            self._running[future] = ready
            if ready.key:
                self._waiting_for_equal.setdefault(ready.key, [])
            self._observer.began(ready.job)
        return True

    def _next(self, at_once: int) -> ReadyJob | None:
        """Return a job to begin now; after a worker's death, only one at a time."""
        if self._suspects:
            return None if self._running else self._suspects.popleft()
        locked = deque(self._locked_elsewhere)
        while (
            len(self._running) < at_once
            and not self.disk_full
            and (queue := self._waiting or locked)
        ):
            job = queue.popleft()
            if queue is locked:
                self._locked_elsewhere.popleft()
            try:
                ready = self._prepare(job)
            except (StorageError, UsageError) as error:  # about this job's places: others go on
                failed = Result("failed", reason=str(error))
                self._record_end(job, unread_input(job, 0, "", None), failed)
                continue
            if ready:
                return ready
        return None

    def _prepare(self, job: Job) -> ReadyJob | None:
        """Lock a job's output and prepare the job; None where there is nothing to do now."""
        if self._is_settled(job):
            return None
        try:
            lock = self._locks.acquire(job.output)
        except OSError as error:
            self._note_full_disk(error)
            self._waiting.appendleft(job)
            return None
        if lock is None:
            self._locked_elsewhere.append(job)
            return None
        ready = None
        try:
            if not (self._ledger.refresh() and self._is_settled(job)):
                ready = self._prepare_locked(job, lock)
        finally:
            if ready is None:
                lock.release()
        return ready

    def _prepare_locked(self, job: Job, lock: OutputLock) -> ReadyJob | None:
        """Prepare a job whose output is locked; None where a probably equal one is running.

        Raises UsageError where an output of the job has become an input of the batch.
        """
        self._planner.require_apart(job)
        described = self._planner.describe_input(job)
        key = self._planner.equality_key(job, described)
        if key in self._waiting_for_equal:
            self._waiting_for_equal[key].append(job)
            return None
        return self._planner.prepare(job, lock, described, key)

    def _is_settled(self, job: Job) -> bool:
        """Report a job that need not be done again; return whether it is one."""
        entry = self._planner.settled_entry(job)
        if entry is None:
            return False
        self._observer.ended(job, entry, already_done=True)
        return True

    def _collect(self, future: Future[Result]) -> None:
        """Record a worker's result, or its death."""
        ready, error = self._running.pop(future), future.exception()
        if _is_broken(future):
            ready = replace(ready, worker_deaths=ready.worker_deaths + 1)
            if ready.worker_deaths < MAX_WORKER_DEATHS:
                self._suspects.append(ready)
                return
            reason = "its worker died twice: killed, or out of memory?"
            result = Result("failed", reason=reason, worker_died=True)
        elif error:
            result = Result("failed", reason=f"{type(error).__name__}: {error}")
        else:
            result = future.result()
        self._record(ready, result)

    def _record(self, ready: ReadyJob, result: Result) -> None:
        """Record a job's result, release its output, and let equal jobs go on."""
        if result.disk_full and self._lacks_room(ready.input.size):
            self.disk_full = True
        recorded = self._record_end(ready.job, ready.input, result, ready.earlier_entry)
        if result.worker_died or not recorded:
            ready.lock.leave()  # the mark tells the next batch that the output is ours
        else:
            ready.lock.release()
        if ready.key:
            equal = self._waiting_for_equal.pop(ready.key, [])
            self._waiting.extendleft(reversed(equal))

    def _record_end(
        self, job: Job, described: InputRecord, result: Result, earlier: Entry | None = None
    ) -> bool:
        """Append a job's result to the ledger; return whether there was room for it."""
        read_input = described.model_copy(update={"sha256": result.input_sha256})
        if result.outcome is None:
            assert earlier
            entry = earlier.model_copy(update={"input": read_input})
        else:
            reason = result.reason
            may_exist = not self._is_local or exists(self._folder / job.output)
            if reason and may_exist and self._ledger.wrote(job.output):
                reason = f"{reason}\n{STALE_OUTPUT}"
            entry = Entry(
                output=job.output,
                outcome=result.outcome,
                reason=reason,
                tool=__version__,
                recipe=job.recipe.name,
                recipe_sha256=job.recipe.digest,
                options_sha256=self._planner.options_digest,
                input=read_input,
                written=result.written,
                same_as=result.same_as,
                figures=result.figures,
                worker=result.worker,
                finished=datetime.now(UTC).isoformat(timespec="seconds"),
                seconds=result.seconds,
            )
        recorded = True
        try:
            self._ledger.append(entry)
        except OSError as error:
            self._note_full_disk(error)
            recorded = False
        self._planner.add_link_candidates([entry])
        self._observer.ended(job, entry, already_done=result.outcome is None)
        return recorded

    def _lacks_room(self, size: int) -> bool:
        """Whether the output folder has too little room for outputs of this size.

        A disk-full error alone does not say so, since another disk may be full.  Each running job
        needs as much room again.
        """
        folder = self._folder
        outputs = len(self._running) + 1
        return isinstance(folder, Path) and shutil.disk_usage(folder).free < size * outputs

    def _note_full_disk(self, error: OSError) -> None:
        """Note that the disk is full; raise an error with another reason again."""
        if error.errno not in DISK_FULL_ERRORS:
            raise error
        self.disk_full = True

    def _clean_up(self) -> None:
        """Record what has finished, and release all outputs; after an early end there are some."""
        for future in [f for f in self._running if f.done() and not f.cancelled()]:
            if future.exception() is None:
                self._collect(future)
        for future, ready in self._running.items():
            if future.done() and (future.cancelled() or not _is_broken(future)):
                ready.lock.release()
            else:
                ready.lock.leave()  # its worker may still write, or wrote before it died
        for ready in self._suspects:
            ready.lock.leave()
        for lock in list(self._locks.held):  # an interrupt kept these jobs from any worker
            lock.release()
        self._locks.remove_folder()


def _is_broken(future: Future[Result]) -> bool:
    return isinstance(future.exception(), BrokenExecutor)
