"""Locks on outputs, so that two batches over one folder do not convert the same file."""

import fcntl
import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = ".batch-claims"


@dataclass(frozen=True)
class OutputLock:
    """An output that only this batch may write until the lock is released.

    ``was_replaceable`` says that a batch that died had marked the output as replaceable.
    """

    was_replaceable: bool
    _path: Path
    _descriptor: int
    _held: set["OutputLock"] = field(compare=False, repr=False)

    def mark_replaceable(self) -> None:
        """Mark whatever lies in the output's place as the work of a batch, which may be replaced.

        The next batch finds the mark if this process dies before the ledger has an entry.
        """
        os.ftruncate(self._descriptor, 1)  # a hole: it needs no room on a full disk

    def release(self) -> None:
        """Release the output and remove the mark; the file is removed while the lock is held."""
        self._path.unlink(missing_ok=True)
        self.leave()

    def leave(self) -> None:
        """Release the output and keep the mark."""
        self._held.discard(self)
        os.close(self._descriptor)


class Locks:
    """Locks a file for each output at work; the kernel drops a lock when its process dies."""

    def __init__(self, folder: Path) -> None:
        """Keep the lock files in a folder of their own in ``folder``."""
        self._folder = folder / FOLDER
        self.held: set[OutputLock] = set()
        """Locks that this process holds."""

    def acquire(self, output: str) -> OutputLock | None:
        """Lock an output; return None where another batch has locked it."""
        self._folder.mkdir(exist_ok=True)
        path = self._folder / hashlib.sha256(output.encode()).hexdigest()[:32]
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # another batch ended just now and removed the folder
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if not _is_same_file(path, descriptor):  # it was removed after it was opened here
            os.close(descriptor)
            return None
        lock = OutputLock(os.fstat(descriptor).st_size > 0, path, descriptor, self.held)
        self.held.add(lock)
        return lock

    def remove_folder(self) -> None:
        """Remove the folder of lock files where no lock is held any more."""
        with suppress(OSError):
            self._folder.rmdir()


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        there, ours = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
