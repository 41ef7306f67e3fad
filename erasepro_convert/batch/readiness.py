"""What is known of a job before a worker gets it: whether it is settled, and what it needs."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from erasepro_convert import __version__
from erasepro_convert.batch.fingerprint import file_state, fingerprint
from erasepro_convert.batch.jobs import LONGEST_PATH, Job
from erasepro_convert.batch.ledger import Entry, InputRecord, Ledger
from erasepro_convert.batch.locks import OutputLock
from erasepro_convert.batch.worker import LinkCandidate, Task
from erasepro_convert.conversion.options import Options
from erasepro_convert.errors import StorageError
from erasepro_convert.manifest import manifest_path
from erasepro_convert.output.destinations import Inputs
from erasepro_convert.runtime.hashing import json_digest
from erasepro_convert.runtime.printable import printable
from erasepro_convert.storage.listing import exists, file_size
from erasepro_convert.storage.location import Location, redacted

EqualityKey = tuple[str, str, str]
"""Digests of recipe, options and input samples: jobs that share them probably give one output."""


@dataclass(frozen=True)
class ReadyJob:
    """A job whose output is locked, with the task for a worker and what is known of the input.

    ``earlier`` is the last entry of its output.  ``key`` is None where its output cannot be linked.
    ``worker_deaths`` counts the workers that died while they had it.
    """

    job: Job
    task: Task
    lock: OutputLock
    input: InputRecord
    earlier: Entry | None
    key: EqualityKey | None
    worker_deaths: int = 0


class JobInspector:
    """Compares jobs with the ledger and with the files that exist."""

    def __init__(self, folder: Location, ledger: Ledger, options: Options, inputs: Inputs) -> None:
        """``folder`` gets the outputs; ``inputs`` is all that the batch reads."""
        self._folder = folder
        self._ledger = ledger
        self._options = options
        self._inputs = inputs
        self.options_digest = digest_options(options)
        self._candidates: dict[EqualityKey, LinkCandidate] = {}
        self.remember(ledger.latest.values())

    def remember(self, entries: Iterable[Entry]) -> None:
        """Remember outputs that those of other jobs may be equal to."""
        for entry in entries:
            path = self._folder / entry.output
            if entry.output.endswith("/") or not isinstance(path, Path):
                continue
            samples, read = entry.input.fingerprint, entry.input.sha256
            if entry.written and samples and read:
                key = entry.recipe_sha256, entry.options_sha256, samples
                self._candidates[key] = LinkCandidate(
                    entry.output, path, read, entry.written.manifest_sha256
                )

    def settled_entry(self, job: Job) -> Entry | None:
        """Return the entry of a job that need not be done again; None where it must be looked at.

        The input is not read: its size and its times decide.
        """
        entry = self._ledger[job.output]
        if entry is None or not self._still_holds(job, entry):
            return None
        try:
            _, now = file_state(job.source)
        except (OSError, StorageError):
            return None
        return entry if now == entry.input.state else None

    def input_samples(self, job: Job) -> tuple[InputRecord, EqualityKey | None]:
        """Describe a job's input by its size, times and samples, without reading all of it."""
        try:
            (size, now), samples = file_state(job.source), fingerprint(job.source)
        except (OSError, StorageError):
            (size, now), samples = (0, ""), None  # the worker will report what is wrong with it
        can_link = (
            samples is not None
            and not job.output.endswith("/")
            and not self._options.sign
            and isinstance(self._folder, Path)
        )
        key = (job.recipe.digest, self.options_digest, samples or "") if can_link else None
        return input_record(job, size, now, samples), key

    def prepare(
        self, job: Job, lock: OutputLock, read: InputRecord, key: EqualityKey | None
    ) -> ReadyJob:
        """Build the task of a job whose output is locked."""
        folder = job.output.endswith("/")
        target, earlier = self._folder / job.output, self._ledger[job.output]
        places = target, manifest_path(target, folder=folder)
        may_replace = self._ledger.wrote(job.output) or lock.was_marked
        if not may_replace and not any(map(exists, places)):
            may_replace = True  # nothing is there yet: whatever appears will be of this batch
        if may_replace:
            lock.mark()
        known = None
        # Reading an input in a store costs as much as converting it.
        is_local = isinstance(job.source, Path)
        same_samples = earlier and earlier.input.fingerprint == read.fingerprint
        if is_local and earlier and self._still_holds(job, earlier) and same_samples:
            known = earlier.input.sha256
        task = Task(
            job.output,
            job.recipe,
            job.source,
            target,
            replace(job.options(self._options), force=self._options.force or may_replace),
            known_sha256=known,
            link_candidate=self._link_candidate(job, key),
        )
        return ReadyJob(job, task, lock, read, earlier, key)

    def require_apart(self, job: Job) -> None:
        """Raise UsageError where an output of a job has become an input of the batch."""
        self._inputs.require_apart(*job.outputs(self._folder, self._options))

    def _still_holds(self, job: Job, entry: Entry) -> bool:
        """Whether an entry is for this recipe, version and options, and its output still exists."""
        current = __version__, job.recipe.digest, self.options_digest
        if (entry.tool, entry.recipe_sha256, entry.options_sha256) != current:
            return False
        if entry.written is None:
            return entry.outcome != "failed"
        return self._output_exists(entry)

    def _output_exists(self, entry: Entry) -> bool:
        """Whether what an entry wrote still lies in its place; a file must have its size."""
        target, written = self._folder / entry.output, entry.written
        assert written
        if entry.output.endswith("/"):
            return exists(target / written.manifest)
        there = exists(target.parent / written.manifest) and exists(target)
        return there and file_size(target) == written.size

    def _link_candidate(self, job: Job, key: EqualityKey | None) -> LinkCandidate | None:
        """Return an existing output that this job's output may be equal to."""
        candidate = self._candidates.get(key) if key else None
        if candidate is None or candidate.output == job.output:
            return None
        entry = self._ledger[candidate.output]
        return candidate if entry and entry.written and self._output_exists(entry) else None


def input_record(job: Job, size: int, state: str, samples: str | None) -> InputRecord:
    """Record a job's input before it has been read; its digest comes later."""
    path = printable(redacted(job.source), LONGEST_PATH)
    return InputRecord(path=path, size=size, state=state, fingerprint=samples, sha256=None)


def digest_options(options: Options) -> str:
    """Return a digest of all options that change what is written."""
    values = {
        name: str(value.absolute()) if isinstance(value, Path) else value
        for name, value in asdict(options).items()
        if name not in ("folder", "force", "dry_run", "text_encoder", "beside")
    }
    values["chain"] = [str(path.absolute()) for path in options.chain]
    # The text encoder counts by its state: it can be a URL, whose signature may change.
    encoder = options.text_encoder
    values["text_encoder"] = file_state(encoder)[1] if encoder else None
    return json_digest(values)
