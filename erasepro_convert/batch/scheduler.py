"""The course of a batch: what is ready goes to an executor, what comes back into the ledger."""

import shutil
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from erasepro_convert.batch.fingerprint import fingerprint, state
from erasepro_convert.batch.jobs import LONGEST_PATH, Job
from erasepro_convert.batch.ledger import Entry, InputRecord, Ledger
from erasepro_convert.batch.locks import Claim, Locks
from erasepro_convert.batch.worker import NO_ROOM, Result, Task, Twin, carry_out
from erasepro_convert.conversion.options import Options
from erasepro_convert.errors import StorageError, UsageError
from erasepro_convert.manifest import manifest_path
from erasepro_convert.output.destinations import Inputs
from erasepro_convert.runtime.hashing import json_digest
from erasepro_convert.runtime.printable import printable
from erasepro_convert.runtime.version import __version__
from erasepro_convert.storage.listing import exists, file_size
from erasepro_convert.storage.location import Location, redacted

PAUSE = 0.5
"""Seconds between looks at what another batch has at work."""
STALE = "what an earlier batch wrote there is of another input, recipe or version"
DEATHS = 2
"""Workers that a job may take with it before it is given up."""


class Viewer(Protocol):
    """Sees what happens."""

    def began(self, job: Job) -> None:
        """A job went to a worker."""

    def ended(self, job: Job, entry: Entry, *, before: bool) -> None:
        """It is known what became of a job; ``before``: from an earlier batch or another one."""


Key = tuple[str, str, str]
"""Digests of recipe, options and samples: jobs that have them in common are probably one."""


@dataclass(frozen=True)
class _Start:
    """A job that is ready to be done, and what is known of it by then."""

    job: Job
    task: Task
    claim: Claim
    input: InputRecord
    earlier: Entry | None
    key: Key | None
    deaths: int = 0


class Batch:
    """Jobs, an output folder, and what was asked for of all of them."""

    def __init__(
        self,
        jobs: Sequence[Job],
        folder: Location,
        ledger: Ledger,
        options: Options,
        inputs: Inputs,
        viewer: Viewer,
    ) -> None:
        """``options`` are those of every job; whether its output is a folder, its name says.

        ``inputs`` is all that the batch reads, which no job may replace.
        """
        self._waiting = deque(jobs)
        self._held: deque[Job] = deque()  # by another batch
        self._following: dict[Key, list[Job]] = {}  # a job at work that is probably the same
        self._suspects: deque[_Start] = deque()  # one of them took its worker with it
        self._flying: dict[Future[Result], _Start] = {}
        self._folder = folder
        self._is_here = isinstance(folder, Path)
        self._ledger = ledger
        self._claims = Locks(ledger.path.parent)
        self._options = options
        self._asked = _digest(options)
        self._inputs = inputs
        self._viewer = viewer
        self._twins: dict[Key, Twin] = {}
        for entry in ledger.latest.values():
            self._remember(entry)
        self.full = False
        """Whether there was no room left to write to."""

    def run(self, open_executor: Callable[[], Executor], at_once: int) -> None:
        """Do the jobs, ``at_once`` of them at a time.

        An executor that broke is opened anew.  However this ends, what is finished by then is in
        the ledger, and nothing is at work any more.
        """
        executor = open_executor()
        try:
            while self._waiting or self._held or self._suspects or self._flying:
                works = self.full or self._begin(executor, at_once)
                if works and not self._flying:
                    if self.full:
                        return
                    time.sleep(PAUSE)  # what is left is at work elsewhere
                    continue
                pause = PAUSE if self._held else None
                landed, _ = wait(self._flying, pause, return_when=FIRST_COMPLETED)
                if not works or any(_is_broken(future) for future in landed):
                    landed, _ = wait(self._flying)  # what was at work failed with it
                    executor.shutdown()
                    executor = open_executor()
                for future in landed:
                    self._land(future)
        finally:
            executor.shutdown(cancel_futures=True)
            self._leave()

    def _begin(self, executor: Executor, at_once: int) -> bool:
        """Send jobs to the executor as long as there is room; say whether it took them."""
        while start := self._next(at_once):
            try:
                future = executor.submit(carry_out, start.task)
            except BrokenExecutor:
                self._suspects.append(start)
                return False
            self._flying[future] = start
            if start.key:
                self._following.setdefault(start.key, [])
            self._viewer.began(start.job)
        return True

    def _next(self, at_once: int) -> _Start | None:
        """A job to begin now; where a worker died, one alone, to find out which it was."""
        if self._suspects:
            return None if self._flying else self._suspects.popleft()
        held = deque(self._held)
        while len(self._flying) < at_once and not self.full and (queue := self._waiting or held):
            job = queue.popleft()
            if queue is held:
                self._held.popleft()
            try:
                start = self._look(job)
            except (StorageError, UsageError) as error:  # of this job's places: others go on
                self._end(job, self._read(job, 0, "", None), Result("failed", reason=str(error)))
                continue
            if start:
                return start
        return None

    def _look(self, job: Job) -> _Start | None:
        """What is known of a job that is to be done; None where there is nothing to do now."""
        if self._is_settled(job):
            return None
        try:
            claim = self._claims.take(job.output)
        except OSError as error:
            self._no_room(error)
            self._waiting.appendleft(job)
            return None
        if claim is None:
            self._held.append(job)
            return None
        start = None
        try:
            if not (self._ledger.refresh() and self._is_settled(job)):
                start = self._claimed(job, claim)
        finally:
            if start is None:
                claim.give_up()
        return start

    def _claimed(self, job: Job, claim: Claim) -> _Start | None:
        """The same of a job that no other batch does; None where one like it is at work.

        Raises UsageError where an output has come to be an input of the batch meanwhile.
        """
        self._inputs.require_apart(*job.outputs(self._folder, self._options))
        try:
            (size, now), samples = state(job.source), fingerprint(job.source)
        except (OSError, StorageError):
            (size, now), samples = (0, ""), None  # the worker will say what is wrong with it
        folder = job.output.endswith("/")
        alone = samples is None or folder or self._options.sign or not self._is_here
        key = None if alone else (job.recipe.digest, self._asked, samples or "")
        if key in self._following:
            self._following[key].append(job)
            return None
        target, earlier = self._folder / job.output, self._ledger[job.output]
        places = target, manifest_path(target, folder=folder)
        ours = self._ledger.wrote(job.output) or claim.is_ours
        if not ours and not any(map(exists, places)):
            ours = True  # a worker that dies at the end leaves an output for the next to replace
        if ours:
            claim.mark()
        known = None
        here = isinstance(job.source, Path)  # elsewhere to read it costs what to convert it does
        if here and earlier and self._stands(job, earlier) and earlier.input.fingerprint == samples:
            known = earlier.input.sha256
        task = Task(
            job.output,
            job.recipe,
            job.source,
            target,
            replace(job.options(self._options), force=self._options.force or ours),
            known=known,
            twin=self._twin(job, key),
        )
        return _Start(job, task, claim, self._read(job, size, now, samples), earlier, key)

    def _read(self, job: Job, size: int, now: str, samples: str | None) -> InputRecord:
        """What is known of a job's input before it is read."""
        path = printable(redacted(job.source), LONGEST_PATH)
        return InputRecord(path=path, size=size, state=now, fingerprint=samples, sha256=None)

    def _is_settled(self, job: Job) -> bool:
        """Whether it is known what becomes of a job, without reading its input."""
        entry = self._ledger[job.output]
        if entry is None or not self._stands(job, entry):
            return False
        try:
            _, now = state(job.source)
        except (OSError, StorageError):
            return False
        if now != entry.input.state:
            return False
        self._viewer.ended(job, entry, before=True)
        return True

    def _stands(self, job: Job, entry: Entry) -> bool:
        """Whether the same was asked for, and came to an end that is still there."""
        ours = __version__, job.recipe.digest, self._asked
        if (entry.tool, entry.recipe_sha256, entry.options_sha256) != ours:
            return False
        if entry.written is None:
            return entry.outcome != "failed"
        return self._is_there(entry)

    def _is_there(self, entry: Entry) -> bool:
        """Whether what was written still lies in its place, by its size."""
        target, written = self._folder / entry.output, entry.written
        assert written
        if entry.output.endswith("/"):
            return exists(target / written.manifest)
        there = exists(target.parent / written.manifest) and exists(target)
        return there and file_size(target) == written.size

    def _land(self, future: Future[Result]) -> None:
        """Take in what a worker says, or that it died."""
        start, error = self._flying.pop(future), future.exception()
        if _is_broken(future):
            start = replace(start, deaths=start.deaths + 1)
            if start.deaths < DEATHS:
                self._suspects.append(start)
                return
            reason = "its worker died twice: killed, or out of memory?"
            result = Result("failed", reason=reason, died=True)
        elif error:
            result = Result("failed", reason=f"{type(error).__name__}: {error}")
        else:
            result = future.result()
        self._record(start, result)

    def _record(self, start: _Start, result: Result) -> None:
        """Write down what became of a job, and let go of what waited for it."""
        if result.full and self._lacks(start.input.size):
            self.full = True
        written = self._end(start.job, start.input, result, start.earlier)
        if result.died or not written:
            start.claim.leave()  # the next batch learns from it that the output is ours
        else:
            start.claim.give_up()
        if start.key:
            self._waiting.extendleft(reversed(self._following.pop(start.key, [])))

    def _end(
        self, job: Job, read: InputRecord, result: Result, earlier: Entry | None = None
    ) -> bool:
        """Write down what became of a job; say whether there was room for it."""
        read = read.model_copy(update={"sha256": result.input_sha256})
        if result.outcome is None:
            assert earlier
            entry = earlier.model_copy(update={"input": read})
        else:
            reason = result.reason
            lies = not self._is_here or exists(self._folder / job.output)
            if reason and lies and self._ledger.wrote(job.output):
                reason = f"{reason}\n{STALE}"
            entry = Entry(
                output=job.output,
                outcome=result.outcome,
                reason=reason,
                tool=__version__,
                recipe=job.recipe.name,
                recipe_sha256=job.recipe.digest,
                options_sha256=self._asked,
                input=read,
                written=result.written,
                same_as=result.same_as,
                figures=result.figures,
                worker=result.worker,
                finished=datetime.now(UTC).isoformat(timespec="seconds"),
                seconds=result.seconds,
            )
        room = True
        try:
            self._ledger.append(entry)
        except OSError as error:
            self._no_room(error)
            room = False
        self._remember(entry)
        self._viewer.ended(job, entry, before=result.outcome is None)
        return room

    def _lacks(self, size: int) -> bool:
        """Whether there is too little room for outputs of this size: not all that is full is ours.

        What is at work needs as much again.
        """
        folder = self._folder
        at_work = len(self._flying) + 1
        return isinstance(folder, Path) and shutil.disk_usage(folder).free < size * at_work

    def _no_room(self, error: OSError) -> None:
        """Note that there is none; raise what has another reason."""
        if error.errno not in NO_ROOM:
            raise error
        self.full = True

    def _remember(self, entry: Entry) -> None:
        """Keep in mind an output that others may be the same as."""
        samples, read = entry.input.fingerprint, entry.input.sha256
        path = self._folder / entry.output
        if entry.output.endswith("/") or not isinstance(path, Path):
            return
        if entry.written and samples and read:
            key = entry.recipe_sha256, entry.options_sha256, samples
            self._twins[key] = Twin(entry.output, path, read, entry.written.manifest_sha256)

    def _twin(self, job: Job, key: Key | None) -> Twin | None:
        """An output that is there and that this job's may be the same as."""
        twin = self._twins.get(key) if key else None
        if twin is None or twin.output == job.output:
            return None
        entry = self._ledger[twin.output]
        return twin if entry and entry.written and self._is_there(entry) else None

    def _leave(self) -> None:
        """After an end before the end: what is finished is written down, the rest given up."""
        for future in [f for f in self._flying if f.done() and not f.cancelled()]:
            if future.exception() is None:
                self._land(future)
        for future, start in self._flying.items():
            if future.done() and (future.cancelled() or not _is_broken(future)):
                start.claim.give_up()
            else:
                start.claim.leave()  # a worker elsewhere may still write it, or has before it died
        for start in self._suspects:
            start.claim.leave()
        for claim in list(self._claims.held):  # of a job that an interrupt kept from any worker
            claim.give_up()
        self._claims.tidy()


def _is_broken(future: Future[Result]) -> bool:
    return isinstance(future.exception(), BrokenExecutor)


def _digest(options: Options) -> str:
    """Of all that is asked for beside the recipe, as far as it changes what is written."""
    asked = {
        name: str(value.absolute()) if isinstance(value, Path) else value
        for name, value in asdict(options).items()
        if name not in ("folder", "force", "dry_run", "text_encoder", "beside")
    }
    asked["chain"] = [str(path.absolute()) for path in options.chain]
    # Known by what it is: it can be a URL, and a URL can change its signature.
    asked["text_encoder"] = state(options.text_encoder)[1] if options.text_encoder else None
    return json_digest(asked)
