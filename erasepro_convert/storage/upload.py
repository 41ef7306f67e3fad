"""Upload an object to a store in parts; it appears when it is complete, or never."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event
from typing import TYPE_CHECKING, Any

from erasepro_convert.errors import StorageError
from erasepro_convert.runtime.background import BackgroundThread
from erasepro_convert.runtime.signals import uninterrupted
from erasepro_convert.storage.failures import translating_errors
from erasepro_convert.storage.location import redacted

if TYPE_CHECKING:
    from upath import UPath

PART_SIZE = 16 << 20
"""Bytes.  A failed part is sent again whole, and S3 accepts 10,000 parts."""


class Upload:
    """An object that is being uploaded.  Another thread sends parts while the next is written.

    The store's library retries each part, and sends a checksum with it.
    """

    def __init__(self, target: "UPath") -> None:
        self._target = target
        self._sending = BackgroundThread()
        self._failed = Event()
        self._committed = False
        self._size = 0
        with translating_errors(target):
            self._file: Any = target.fs.open(
                target.path, "wb", block_size=PART_SIZE, autocommit=False
            )

    def write(self, content: bytes | memoryview) -> int:
        """Queue bytes, which must not change.  Raises StorageError, also for earlier bytes."""
        self._sending.submit(self._send, content)
        self._size += len(content)
        return len(content)

    def flush(self) -> None:
        """Do nothing, since a part is sent when it is large enough."""

    def close(self) -> None:
        """Send the remaining bytes.  Raises StorageError."""
        self._sending.wait()
        with translating_errors(self._target):
            self._file.close()

    def commit(self) -> None:
        """Make the object visible.  Raises StorageError, also if its size is not what was sent."""
        with translating_errors(self._target):
            self._file.commit()
        self._committed = True
        try:
            with translating_errors(self._target):
                stored_size = self._target.fs.info(self._target.path)["size"]
            if stored_size != self._size:
                raise StorageError(
                    f"{redacted(self._target)}: {self._size} bytes were sent, "
                    f"{stored_size} are there"
                )
        except BaseException:
            remove(self._target)
            raise

    def discard(self) -> None:
        """Remove the parts that were sent, unless the upload was committed.

        Raises StorageError where that fails.
        """
        if self._committed:
            return
        self._failed.set()
        while True:  # wait for the part on its way, which would outlive the others
            with suppress(StorageError):
                self._sending.wait()
                break
        with translating_errors(self._target):
            self._file.discard()
            self._file.closed = True  # otherwise garbage collection would send it

    def _send(self, content: bytes | memoryview) -> None:
        if self._failed.is_set():
            return
        try:
            with translating_errors(self._target):
                self._file.write(content)
        except StorageError:
            self._failed.set()
            raise


@contextmanager
def uploading(target: "UPath") -> Iterator[Upload]:
    """Begin an upload, which is discarded if the block raises.  The block has to commit it."""
    upload = Upload(target)
    try:
        yield upload
    except BaseException:
        with uninterrupted(), suppress(StorageError):  # the first failure is the one to report
            upload.discard()
        raise


def remove(target: "UPath") -> None:
    """Remove an object that should not be there, if the store permits it."""
    with suppress(StorageError), translating_errors(target):
        target.fs.rm_file(target.path)
