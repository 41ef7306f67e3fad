"""An open local file, and digests of files that are made while they are read."""

import errno
import os
import stat
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.background import BackgroundDigest
from erasepro_convert.runtime.buffers import chunk_buffer
from erasepro_convert.runtime.memory import CHUNK_SIZE

CANNOT_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
"""Error numbers of copy_file_range where it does not work: between file systems, into a device, in
a sandbox."""


class Readable(Protocol):
    """A file whose bytes can be read at any position; OpenFile documents the methods."""

    size: int

    def read(self, start: int, count: int) -> bytearray:
        """Read ``count`` bytes from ``start`` on."""

    def chunks(self, start: int, count: int) -> Iterator[memoryview]:
        """Give ``count`` bytes from ``start`` on, in chunks."""


class File(Readable, Protocol):
    """A file on the disk (OpenFile) or in a store (storage.remote_file.RemoteFile)."""

    gap_limit: int

    def read_into(self, view: memoryview, start: int) -> None:
        """Fill ``view`` with the bytes from ``start`` on."""

    def copy(self, start: int, count: int, target: int) -> int:
        """Let the kernel copy bytes to a descriptor, and return how many it copied."""

    def prefetching(self, spans: Iterable[tuple[int, int]]) -> Readable:
        """Return a reader that requests these ranges (start, count) in advance, in this order."""


class OpenFile:
    """A regular file, open for reading at any position; it is closed with its last reference.

    All reading uses one descriptor, and fails when the file has changed since it was opened.
    Reading copies rather than maps: a mapped file that shrinks meanwhile kills the process.
    """

    gap_limit = 0
    """Bytes.  A gap between two ranges that is no larger is better read too."""

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
        self._can_copy = hasattr(os, "copy_file_range")  # Linux has it
        self._signature = _signature(status)

    def read(self, start: int, count: int) -> bytearray:
        """Read ``count`` bytes from ``start`` on.

        Raises CheckpointError when the file is too short, or has changed since it was opened.
        """
        self._require_within(start + count)
        content = bytearray(count)
        self.read_into(memoryview(content), start)
        return content

    def read_into(self, view: memoryview, start: int) -> None:
        """Fill ``view`` with the bytes from ``start`` on.  Raises what ``read`` does."""
        count, done = len(view), 0
        self._require_within(start + count)
        while done < count:
            read = os.preadv(self._descriptor, [view[done:]], start + done)
            if read == 0:
                break
            done += read
        self._require_unchanged(read_all=done == count)

    def _require_within(self, end: int) -> None:
        if end > self.size:
            raise CheckpointError(f"it is cut short: {end} bytes needed, {self.size} there")

    def copy(self, start: int, count: int, target: int) -> int:
        """Let the kernel copy bytes to the descriptor ``target``, and return how many it copied.

        It copies fewer than ``count`` where the system or the file systems cannot do it.  Raises
        CheckpointError when the file has changed since it was opened.
        """
        done = 0
        while self._can_copy and done < count:
            try:
                copied = os.copy_file_range(self._descriptor, target, count - done, start + done)
            except OSError as error:
                if error.errno not in CANNOT_COPY:
                    raise
                copied = 0
            self._can_copy = copied > 0
            done += copied
        self._require_unchanged()
        return done

    def _require_unchanged(self, *, read_all: bool = True) -> None:
        if not read_all or _signature(os.fstat(self._descriptor)) != self._signature:
            raise CheckpointError("it changed while it was read")

    def chunks(self, start: int, count: int) -> Iterator[memoryview]:
        """Give ``count`` bytes from ``start`` on, in chunks."""
        for position in range(start, start + count, CHUNK_SIZE):
            chunk = chunk_buffer(min(CHUNK_SIZE, start + count - position))
            self.read_into(chunk, position)
            yield chunk

    def prefetching(self, spans: Iterable[tuple[int, int]]) -> Readable:
        """Return this file, since the kernel reads ahead by itself."""
        return self


def _status(path: Path) -> os.stat_result:
    """Return a file's status.  Raises CheckpointError for a link that leads nowhere."""
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
    """Return numbers that differ once a file has changed."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


@dataclass(frozen=True)
class FileHashes:
    """SHA-256 digests of a file.

    ``autov3`` covers what follows a safetensors header; it is None where it was not asked for, and
    for other containers.
    """

    sha256: str
    autov3: str | None

    @property
    def autov2(self) -> str:
        """The short hash of A1111 and Civitai."""
        return self.sha256[:10]


class FileHasher:
    """Hashes a file while it is read for other purposes, so that each byte is read once.

    Bytes are hashed in the order of the file, whatever the order of reading: before a chunk is
    read, all bytes before it that were skipped are read and hashed.  ``body_start`` is where a
    safetensors file's header ends; None takes no AutoV3.  ``progress`` gets the bytes hashed
    so far.
    """

    def __init__(
        self, file: Readable, body_start: int | None, progress: Callable[[int], None]
    ) -> None:
        self._file = file
        self._body_start = body_start
        self._progress = progress
        self._done = 0
        self._file_digest, self._body_digest = BackgroundDigest(), BackgroundDigest()

    def chunks(self, start: int, count: int) -> Iterator[memoryview]:
        """Give ``count`` bytes from ``start`` on, in chunks, which are hashed on the way."""
        self._catch_up(start)
        for chunk in self._file.chunks(start, count):
            self._add(start, chunk)
            start += len(chunk)
            yield chunk

    def finish(self) -> FileHashes:
        """Return the digests, after reading the rest of the file."""
        self._catch_up(self._file.size)
        autov3 = None if self._body_start is None else self._body_digest.hexdigest()
        return FileHashes(self._file_digest.hexdigest(), autov3)

    def _catch_up(self, end: int) -> None:
        """Read and hash what was skipped before ``end``."""
        for chunk in self._file.chunks(self._done, end - self._done):
            self._add(self._done, chunk)

    def _add(self, start: int, chunk: memoryview) -> None:
        """Hash those bytes of a chunk from ``start`` on that have not been hashed yet."""
        new = chunk[self._done - start :]
        if not new:
            return
        self._file_digest.update(new)
        if self._body_start is not None:
            self._body_digest.update(new[max(0, self._body_start - self._done) :])
        self._done += len(new)
        self._progress(self._done)
