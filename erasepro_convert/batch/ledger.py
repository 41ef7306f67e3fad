"""What became of each file: a line of JSON for each, appended when it is known."""

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from erasepro_convert.errors import UsageError
from erasepro_convert.manifest.fields import Count, Norm, Record, Sha256

LEDGER = "batch.manifest.jsonl"

Outcome = Literal["done", "linked", "refused", "exceeded", "failed"]
"""``linked``: the input is that of another output, which was linked or copied.  ``refused``: the
input is no sound SD1.x checkpoint.  ``exceeded``: the result does not hold.  ``failed``: anything
else, which may go well next time."""


class InputRecord(Record):
    """The input, and how it is known again without reading it."""

    path: str
    size: Count
    state: str
    """Size and times of its files; whoever changes a file changes this."""
    fingerprint: Sha256 | None
    """Of the size and of samples; inputs that differ in it differ."""
    sha256: tuple[Sha256, ...] | None
    """Of its files, where they were read to the end."""


class OutputRecord(Record):
    """What was written."""

    size: Count
    sha256: tuple[Sha256, ...]
    """Of its files."""
    manifest: str
    manifest_sha256: Sha256
    """As the manifest states it of itself."""


class Figures(Record):
    """The worst of the manifest's figures."""

    leak: Norm
    drift: Norm
    relative_update: Norm


class Entry(Record):
    """A line: what became of one job."""

    version: Literal[1] = 1
    output: str
    """Below the output folder; a diffusers folder ends in a slash."""
    outcome: Outcome
    reason: str | None
    tool: str
    """Version of erasepro-convert."""
    recipe: str
    recipe_sha256: Sha256
    """Of the recipe as given; the manifest has it as it was run."""
    options_sha256: Sha256
    """Of what was asked for on the command line."""
    input: InputRecord
    written: OutputRecord | None
    same_as: str | None
    """The output that was linked or copied."""
    figures: Figures | None
    worker: str
    """Host and process."""
    finished: str
    """ISO 8601, UTC."""
    seconds: Norm


class Ledger:
    """The file of entries, to read and to append to; several batches may do so at once.

    The last entry of an output counts.
    """

    def __init__(self, folder: Path) -> None:
        """Create the file where there is none.  Raises UsageError for a file of another kind."""
        self.path = folder / LEDGER
        self._descriptor = os.open(
            self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666
        )
        self._read = 0
        self._latest: dict[str, Entry] = {}
        self._wrote: set[str] = set()
        if self.refresh() and not self._latest:
            raise UsageError(f"{self.path}: not a batch's record: no line of it is one")

    def __getitem__(self, output: str) -> Entry | None:
        """What last became of an output, as far as is known."""
        return self._latest.get(output)

    def wrote(self, output: str) -> bool:
        """Whether a batch ever wrote this output: then it may be replaced."""
        return output in self._wrote

    @property
    def latest(self) -> Mapping[str, Entry]:
        """The last entry of each output, in the order in which they came."""
        return self._latest

    def refresh(self) -> bool:
        """Read what was appended since; say whether there was anything.

        A line that a killed batch left unfinished is passed over: that file is done again.
        """
        size = os.fstat(self._descriptor).st_size
        content = os.pread(self._descriptor, size - self._read, self._read)
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            try:
                entry = Entry.model_validate_json(line)
            except ValidationError:
                continue
            self._latest.pop(entry.output, None)
            self._latest[entry.output] = entry
            if entry.written:
                self._wrote.add(entry.output)
        return bool(whole)

    def append(self, entry: Entry) -> None:
        """Add a line, and bring it to the disk."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            size = os.fstat(self._descriptor).st_size
            torn = size and os.pread(self._descriptor, 1, size - 1) != b"\n"
            line = ("\n" if torn else "") + entry.model_dump_json() + "\n"
            with open(self._descriptor, "ab", buffering=0, closefd=False) as file:
                rest = memoryview(line.encode())
                while rest:
                    rest = rest[file.write(rest) :]
            os.fsync(self._descriptor)
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self.refresh()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
