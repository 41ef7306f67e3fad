"""Decide, before a worker gets a job, whether it needs work, and prepare what the worker needs."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from erasepro_convert import __version__
from erasepro_convert.batch.fingerprint import file_state, take_fingerprint
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
"""Digest of the recipe, digest of the options, and fingerprint of the input.

Jobs with equal keys probably give one output.
"""


@dataclass(frozen=True)
class ReadyJob:
    """A job whose output is locked, with the task for a worker and what is known of the input.

    ``earlier_entry`` is the last entry of its output.  ``key`` is None where its output cannot be
    linked.  ``worker_deaths`` counts the workers that died while they had it.
    """

    job: Job
    task: Task
    lock: OutputLock
    input: InputRecord
    earlier_entry: Entry | None
    key: EqualityKey | None
    worker_deaths: int = 0


class JobPlanner:
    """Decides which jobs need work and what a worker does for each.

    It looks at the ledger and at the files that exist.
    """

    def __init__(self, folder: Location, ledger: Ledger, options: Options, inputs: Inputs) -> None:
        """``folder`` gets the outputs; ``inputs`` is all that the batch reads."""
        self._folder = folder
        self._ledger = ledger
        self._options = options
        self._inputs = inputs
        self.options_digest = digest_options(options)
        self._link_candidates: dict[EqualityKey, LinkCandidate] = {}
        self.add_link_candidates(ledger.latest.values())

    def add_link_candidates(self, entries: Iterable[Entry]) -> None:
        """Note which outputs the equal outputs of later jobs can be linked to."""
        for entry in entries:
            path = self._folder / entry.output
            if entry.output_is_folder or not isinstance(path, Path):
                continue
            fingerprint, digests = entry.input.fingerprint, entry.input.sha256
            if entry.written and fingerprint and digests:
                key = entry.recipe_sha256, entry.options_sha256, fingerprint
                self._link_candidates[key] = LinkCandidate(
                    entry.output, path, digests, entry.written.manifest_sha256
                )

    def settled_entry(self, job: Job) -> Entry | None:
        """Return the entry of a job that need not be done again; None where it must be looked at.

        The input is not read: its size and its times decide.
        """
        entry = self._ledger.get(job.output)
        if entry is None or not self._still_holds(job, entry):
            return None
        try:
            _, current_state = file_state(job.source)
        except (OSError, StorageError):
            return None
        return entry if current_state == entry.input.state else None

    def describe_input(self, job: Job) -> InputRecord:
        """Describe a job's input by its size, times and samples, without reading all of it."""
        try:
            size, state = file_state(job.source)
            return unread_input(job, size, state, take_fingerprint(job.source))
        except (OSError, StorageError):  # the worker will report what is wrong with it
            return unread_input(job, 0, "", None)

    def equality_key(self, job: Job, described: InputRecord) -> EqualityKey | None:
        """Return what jobs with an equal output share; None where the output cannot be linked.

        Only a local file can be linked, and a linked output gets no signature.
        """
        can_link = (
            isinstance(self._folder, Path) and not job.output_is_folder and not self._options.sign
        )
        if not can_link or described.fingerprint is None:
            return None
        return job.recipe.digest, self.options_digest, described.fingerprint

    def prepare(
        self, job: Job, lock: OutputLock, described: InputRecord, key: EqualityKey | None
    ) -> ReadyJob:
        """Build the task of a job whose output is locked, and mark an output that it may replace.

        ``described`` and ``key`` are what ``describe_input`` and ``equality_key`` gave.
        """
        earlier = self._ledger.get(job.output)
        may_replace = self._may_replace(job, lock)
        if may_replace:
            lock.mark_replaceable()
        task = Task(
            job.output,
            job.recipe,
            job.source,
            self._folder / job.output,
            replace(job.options(self._options), force=self._options.force or may_replace),
            known_sha256=self._digests_to_compare(job, described, earlier),
            link_candidate=self._link_candidate(job, key),
        )
        return ReadyJob(job, task, lock, described, earlier, key)

    def require_apart(self, job: Job) -> None:
        """Raise UsageError where an output of a job has become an input of the batch."""
        self._inputs.require_apart(*job.outputs(self._folder, self._options))

    def _may_replace(self, job: Job, lock: OutputLock) -> bool:
        """Whether all that lies in the output's place is, or will be, the work of a batch."""
        if self._ledger.wrote(job.output) or lock.was_replaceable:
            return True
        target = self._folder / job.output
        places = target, manifest_path(target, folder=job.output_is_folder)
        return not any(map(exists, places))  # whatever appears there now comes from this batch

    def _digests_to_compare(
        self, job: Job, described: InputRecord, earlier: Entry | None
    ) -> tuple[str, ...] | None:
        """Return the digests of the input that the existing output was made from.

        If the input still has them, the worker need not convert it.  Returns None where the worker
        should not compare: the output no longer holds, the input certainly differs, or it is in a
        store, where reading it costs as much as converting it.
        """
        if not isinstance(job.source, Path):
            return None
        if earlier is None or not self._still_holds(job, earlier):
            return None
        # A folder has no fingerprint, neither then nor now: only its digests tell whether it
        # differs.
        certainly_differs = described.fingerprint != earlier.input.fingerprint
        return None if certainly_differs else earlier.input.sha256

    def _link_candidate(self, job: Job, key: EqualityKey | None) -> LinkCandidate | None:
        """Return an existing output that this job's output may be equal to."""
        candidate = self._link_candidates.get(key) if key else None
        if candidate is None or candidate.output == job.output:
            return None
        entry = self._ledger.get(candidate.output)
        return candidate if entry and entry.written and self._output_exists(entry) else None

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
        if entry.output_is_folder:
            return exists(target / written.manifest)
        has_both_files = exists(target.parent / written.manifest) and exists(target)
        return has_both_files and file_size(target) == written.size


def unread_input(job: Job, size: int, state: str, fingerprint: str | None) -> InputRecord:
    """Return the record of a job's input before all of it has been read; it has no digests yet."""
    path = printable(redacted(job.source), LONGEST_PATH)
    return InputRecord(path=path, size=size, state=state, fingerprint=fingerprint, sha256=None)


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
