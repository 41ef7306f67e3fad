"""The record of a batch: a line of JSON for each finished job, appended as soon as it is known."""

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from erasepro_convert.errors import UsageError
from erasepro_convert.manifest.fields import Count, NonNegative, Record, Sha256

LEDGER = "batch.manifest.jsonl"

Outcome = Literal["done", "linked", "refused", "exceeded", "failed"]
"""How a job ended.

``linked``: the input equals that of another output, which was linked or copied.  ``refused``: the
input is no sound SD1.x checkpoint.  ``exceeded``: the result exceeds a limit of the recipe.
``failed``: anything else, which may succeed next time.
"""


class InputRecord(Record):
    """The input, and how a later batch recognises it without reading it."""

    path: str
    """The path or the URL, without its user, query and fragment."""
    size: Count
    """The bytes of all its files."""
    state: str
    """A digest of the sizes and times of its files; any change of a file changes it."""
    fingerprint: Sha256 | None
    """A digest of its size and of samples; inputs with different ones are different.

    A folder and an object in a store have none.
    """
    sha256: tuple[Sha256, ...] | None
    """The digests of its files, where they were read to the end."""


class OutputRecord(Record):
    """The output that a job wrote."""

    size: Count
    """The bytes of all its files."""
    sha256: tuple[Sha256, ...]
    """The digests of its files."""
    manifest: str
    """The name of the manifest, which lies beside an output file or in an output folder."""
    manifest_sha256: Sha256
    """The manifest's digest, as the manifest itself states it."""


class Figures(Record):
    """The worst leak, drift and relative update in the manifest."""

    leak: NonNegative
    """The largest leak of any held-out prompt."""
    drift: NonNegative
    """The largest drift of any held-out prompt of other things."""
    relative_update: NonNegative
    """The largest relative update of any edited matrix."""


class Entry(Record):
    """A line of the record: how one job ended."""

    version: Literal[1] = 1
    """The version of this format."""
    output: str
    """The path below the output folder; a diffusers folder's ends in a slash."""
    outcome: Outcome
    reason: str | None
    """Why the job wrote no output; None where it wrote one."""
    tool: str
    """The version of erasepro-convert."""
    recipe: str
    """The recipe's name."""
    recipe_sha256: Sha256
    """The digest of the recipe as given; the manifest has the recipe as it was run."""
    options_sha256: Sha256
    """A digest of the options on the command line."""
    input: InputRecord
    written: OutputRecord | None
    """What was written; None where nothing was."""
    same_as: str | None
    """The output that was linked or copied."""
    figures: Figures | None
    """The worst measures of the output; None where nothing was written."""
    worker: str
    """The host and the process that did the job."""
    finished: str
    """The time in ISO 8601, UTC."""
    seconds: NonNegative
    """How long the job took."""

    @property
    def output_is_folder(self) -> bool:
        """Whether the output is a diffusers folder, rather than a file."""
        return self.output.endswith("/")


class Ledger:
    """The file of entries, which several batches may read and append to at once.

    Of several entries for one output, the last one counts.
    """

    def __init__(self, folder: Path) -> None:
        """Create the file where there is none.  Raises UsageError for a file of another kind."""
        self.path = folder / LEDGER
        self._descriptor = os.open(
            self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666
        )
        self._read_offset = 0
        self._latest: dict[str, Entry] = {}
        self._written_outputs: set[str] = set()
        try:
            if self.refresh() and not self._latest:
                raise UsageError(f"{self.path}: not a batch's record: no line of it is one")
        except BaseException:
            self.close()
            raise

    def get(self, output: str) -> Entry | None:
        """Return the last known entry of an output; None where it has none."""
        return self._latest.get(output)

    def wrote(self, output: str) -> bool:
        """Whether a batch ever wrote this output: then it may be replaced."""
        return output in self._written_outputs

    @property
    def latest(self) -> Mapping[str, Entry]:
        """The last entry of each output, in the order in which they came."""
        return self._latest

    def refresh(self) -> bool:
        """Read what other batches appended since; return whether there was anything.

        Lines that are no valid entry are ignored, such as the rest of a line that a killed batch
        left: those jobs are done again.
        """
        size = os.fstat(self._descriptor).st_size
        content = os.pread(self._descriptor, size - self._read_offset, self._read_offset)
        whole_lines = content[: content.rfind(b"\n") + 1]
        self._read_offset += len(whole_lines)
        for line in whole_lines.splitlines():
            try:
                entry = Entry.model_validate_json(line)
            except ValidationError:
                continue
            self._latest.pop(entry.output, None)
            self._latest[entry.output] = entry
            if entry.written:
                self._written_outputs.add(entry.output)
        return bool(whole_lines)

    def append(self, entry: Entry) -> None:
        """Add a line, and sync it to the disk."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            size = os.fstat(self._descriptor).st_size
            # A killed batch may have left half a line: it is ended first.
            is_torn = size and os.pread(self._descriptor, 1, size - 1) != b"\n"
            line = ("\n" if is_torn else "") + entry.model_dump_json() + "\n"
            with open(self._descriptor, "ab", buffering=0, closefd=False) as file:
                unwritten = memoryview(line.encode())
                while unwritten:
                    unwritten = unwritten[file.write(unwritten) :]
            os.fsync(self._descriptor)
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self.refresh()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
