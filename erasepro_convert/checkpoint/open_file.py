"""One open file: every read comes from the same descriptor and notices a change of the file."""

import errno
import hashlib
import os
import stat
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.background import BackgroundThread
from erasepro_convert.runtime.memory import CHUNK_SIZE

CANNOT_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
"""What copy_file_range says where it does not work: between file systems, into a device, in a
sandbox."""


class Readable(Protocol):
    """Something whose bytes can be read at any place; OpenFile says how."""

    size: int

    def read(self, start: int, count: int) -> bytearray:
        """``count`` bytes from ``start`` on."""

    def chunks(self, start: int, count: int) -> Iterator[memoryview]:
        """The same bytes in pieces."""


class File(Readable, Protocol):
    """A file that is here (OpenFile) or elsewhere (remote.RemoteFile)."""

    gap_limit: int

    def read_into(self, view: memoryview, start: int) -> None:
        """Fill ``view`` with the bytes from ``start`` on."""

    def copy(self, start: int, count: int, target: int) -> int:
        """Have the kernel copy bytes to a descriptor, and say how many it did."""

    def prefetching(self, spans: Iterable[tuple[int, int]]) -> Readable:
        """The same for one that will read these parts (start, count), in this order."""


class OpenFile:
    """A regular file, open for reading at any place; closed with its last reference.

    Reading copies rather than maps: a mapped file that shrinks meanwhile kills the process.
    """

    gap_limit = 0
    """Bytes: of two parts with no more between them it is better to read all."""

    def __init__(self, path: Path) -> None:
        """Raise CheckpointError for anything but a regular file with content."""
        _require_regular(_status(path))  # opening a device can have effects of its own
        # O_NONBLOCK: should the path have become a pipe by now, opening it must not hang.
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        weakref.finalize(self, os.close, self._descriptor)
        status = os.fstat(self._descriptor)
        _require_regular(status)
        if status.st_size == 0:
            raise CheckpointError("it is empty")
        self.size = status.st_size
        self._copies = hasattr(os, "copy_file_range")  # Linux has it
        self._signature = _signature(status)

    def read(self, start: int, count: int) -> bytearray:
        """``count`` bytes from ``start`` on.

        Raises CheckpointError when the file ends before, or has changed since it was opened.
        """
        self._require(start + count)
        content = bytearray(count)
        self.read_into(memoryview(content), start)
        return content

    def read_into(self, view: memoryview, start: int) -> None:
        """Fill ``view`` with the bytes from ``start`` on.  Raises what ``read`` does."""
        count, done = len(view), 0
        self._require(start + count)
        while done < count:
            read = os.preadv(self._descriptor, [view[done:]], start + done)
            if read == 0:
                break
            done += read
        self._require_unchanged(done == count)

    def _require(self, end: int) -> None:
        if end > self.size:
            raise CheckpointError(f"it is cut short: {end} bytes needed, {self.size} there")

    def copy(self, start: int, count: int, target: int) -> int:
        """Have the kernel copy bytes to the descriptor ``target``, and say how many it did.

        That is not all of them where the system or the file systems cannot do it.  Raises
        CheckpointError when the file has changed since it was opened.
        """
        done = 0
        while self._copies and done < count:
            try:
                copied = os.copy_file_range(self._descriptor, target, count - done, start + done)
            except OSError as error:
                if error.errno not in CANNOT_COPY:
                    raise
                copied = 0
            self._copies = copied > 0
            done += copied
        self._require_unchanged()
        return done

    def _require_unchanged(self, complete: bool = True) -> None:
        if not complete or _signature(os.fstat(self._descriptor)) != self._signature:
            raise CheckpointError("it changed while it was read")

    def chunks(self, start: int, count: int) -> Iterator[memoryview]:
        """The same bytes in pieces."""
        for position in range(start, start + count, CHUNK_SIZE):
            yield memoryview(self.read(position, min(CHUNK_SIZE, start + count - position)))

    def prefetching(self, spans: Iterable[tuple[int, int]]) -> Readable:
        """The same file: the kernel sees by itself what will be read next."""
        return self


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        if path.is_symlink():
            raise CheckpointError("it is a link that leads nowhere") from error
        raise


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError("it is not a regular file")


def _signature(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


@dataclass(frozen=True)
class FileHashes:
    """SHA-256 of a file, and of what follows a safetensors header (None for other containers)."""

    sha256: str
    autov3: str | None

    @property
    def autov2(self) -> str:
        """A1111's and Civitai's short hash."""
        return self.sha256[:10]


class Hashing:
    """Digests of a file made while it is read for other purposes: each byte is read once.

    Bytes count in the order of the file, whatever the order of reading; what was skipped is read
    when something behind it is.  ``body_start`` is where a safetensors file's header ends.
    ``progress`` gets the bytes done so far.
    """

    def __init__(
        self, file: Readable, body_start: int | None, progress: Callable[[int], None]
    ) -> None:
        self._file = file
        self._body_start = body_start
        self._progress = progress
        self._done = 0
        self._whole, self._body = hashlib.sha256(), hashlib.sha256()
        self._lanes = BackgroundThread(), BackgroundThread()

    def chunks(self, start: int, count: int) -> Iterator[memoryview]:
        """``count`` bytes from ``start`` on, in pieces."""
        self._catch_up(start)
        for chunk in self._file.chunks(start, count):
            self._add(start, chunk)
            start += len(chunk)
            yield chunk

    def finish(self) -> FileHashes:
        """The digests, after reading what nobody wanted."""
        self._catch_up(self._file.size)
        for lane in self._lanes:
            lane.wait()
        body = None if self._body_start is None else self._body.hexdigest()
        return FileHashes(self._whole.hexdigest(), body)

    def _catch_up(self, end: int) -> None:
        for chunk in self._file.chunks(self._done, end - self._done):
            self._add(self._done, chunk)

    def _add(self, start: int, chunk: memoryview) -> None:
        new = chunk[self._done - start :]
        if not new:
            return
        whole, body = self._lanes
        whole.submit(self._whole.update, new)
        if self._body_start is not None:
            body.submit(self._body.update, new[max(0, self._body_start - self._done) :])
        self._done += len(new)
        self._progress(self._done)
