"""Claims on outputs, so that two batches over one folder do not do the same file."""

import fcntl
import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = ".batch-claims"


@dataclass(frozen=True)
class Claim:
    """An output that is this batch's to write until the claim is given up.

    ``is_ours`` says that a batch which died had marked it: what lies there is its work.
    """

    is_ours: bool
    _path: Path
    _descriptor: int
    _held: set["Claim"] = field(compare=False, repr=False)

    def mark(self) -> None:
        """Say that what will lie there is our work, should this process die."""
        os.ftruncate(self._descriptor, 1)  # a hole: it needs no room on a full disk

    def give_up(self) -> None:
        """Let others have it; the file goes first, while the lock is still held."""
        self._path.unlink(missing_ok=True)
        self.leave()

    def leave(self) -> None:
        """Let others have it, and keep the mark."""
        self._held.discard(self)
        os.close(self._descriptor)


class Locks:
    """A locked file for each output at work; the kernel drops a lock when its process dies."""

    def __init__(self, folder: Path) -> None:
        """Keep the files in a folder of their own in ``folder``."""
        self._folder = folder / FOLDER
        self.held: set[Claim] = set()
        """Those that were taken and neither given up nor left."""

    def take(self, output: str) -> Claim | None:
        """A claim on an output; None where another batch has one."""
        self._folder.mkdir(exist_ok=True)
        path = self._folder / hashlib.sha256(output.encode()).hexdigest()[:32]
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # another batch ended just now and took the folder away
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if not _is(path, descriptor):  # given up between our opening and our locking
            os.close(descriptor)
            return None
        claim = Claim(os.fstat(descriptor).st_size > 0, path, descriptor, self.held)
        self.held.add(claim)
        return claim

    def tidy(self) -> None:
        """Remove the folder where nothing is claimed any more."""
        with suppress(OSError):
            self._folder.rmdir()


def _is(path: Path, descriptor: int) -> bool:
    try:
        there, ours = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
