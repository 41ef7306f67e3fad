"""One open file: every read comes from the same descriptor and notices a change of the file."""

import hashlib
import os
import stat
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from erasepro_convert.checkpoint.tensors import CHUNK
from erasepro_convert.digest import Hash, updating
from erasepro_convert.errors import CheckpointError


class OpenFile:
    """A regular file, open for reading at any place; closed with its last reference.

    Reading copies rather than maps: a mapped file that shrinks meanwhile kills the process.
    """

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
        self._signature = _signature(status)

    def read(self, start: int, count: int) -> bytearray:
        """``count`` bytes from ``start`` on.

        Raises CheckpointError when the file ends before, or has changed since it was opened.
        """
        if start + count > self.size:
            raise CheckpointError(
                f"it is cut short: {start + count} bytes needed, {self.size} there"
            )
        content = bytearray(count)
        view, done = memoryview(content), 0
        while done < count:
            read = os.preadv(self._descriptor, [view[done:]], start + done)
            if read == 0:
                break
            done += read
        if done < count or _signature(os.fstat(self._descriptor)) != self._signature:
            raise CheckpointError("it changed while it was read")
        return content

    def chunks(self, start: int, count: int) -> Iterator[memoryview]:
        """The same bytes in pieces."""
        for position in range(start, start + count, CHUNK):
            yield memoryview(self.read(position, min(CHUNK, start + count - position)))


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


def hash_file(
    file: OpenFile, body_start: int | None, progress: Callable[[int], None]
) -> FileHashes:
    """Digests of a file, read once; ``progress`` gets the bytes done so far."""
    whole, body = hashlib.sha256(), hashlib.sha256()
    done = 0
    with ThreadPoolExecutor() as threads:
        for chunk in file.chunks(0, file.size):
            parts: list[tuple[Hash, memoryview]] = [(whole, chunk)]
            if body_start is not None:
                parts.append((body, chunk[max(0, body_start - done) :]))
            with updating(threads, parts):
                done += len(chunk)
                progress(done)
    return FileHashes(whole.hexdigest(), body.hexdigest() if body_start is not None else None)
