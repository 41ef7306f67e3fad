"""Write an object to a store in parts; it shows when all are there, or never."""

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

PART = 16 << 20
"""Bytes: a failed part is sent again whole, and S3 takes 10,000 of them."""


class Upload:
    """An object in the making.  Parts are sent by another thread, while the next is written.

    Each part is retried by the store's library, which also sends a checksum with it.
    """

    def __init__(self, target: "UPath") -> None:
        self._target = target
        self._sending = BackgroundThread()
        self._failed = Event()
        self._committed = False
        self._size = 0
        with translating_errors(target):
            self._file: Any = target.fs.open(target.path, "wb", block_size=PART, autocommit=False)

    def write(self, content: bytes | memoryview) -> int:
        """Take bytes, which must stay as they are.  Raises StorageError for earlier ones too."""
        self._sending.submit(self._send, content)
        self._size += len(content)
        return len(content)

    def flush(self) -> None:
        """Do nothing: parts are sent when they are large enough."""

    def close(self) -> None:
        """Send what is left.  Raises StorageError."""
        self._sending.wait()
        with translating_errors(self._target):
            self._file.close()

    def commit(self) -> None:
        """Show the object.  Raises StorageError, also for one that is not what was sent."""
        with translating_errors(self._target):
            self._file.commit()
        self._committed = True
        try:
            with translating_errors(self._target):
                found = self._target.fs.info(self._target.path)["size"]
            if found != self._size:
                raise StorageError(
                    f"{redacted(self._target)}: {self._size} bytes were sent, {found} are there"
                )
        except BaseException:
            remove(self._target)
            raise

    def discard(self) -> None:
        """Give up what was not committed: parts that were sent are removed.

        Raises StorageError where that fails.
        """
        if self._committed:
            return
        self._failed.set()
        while True:  # a part that is on its way would outlive the others
            with suppress(StorageError):
                self._sending.wait()
                break
        with translating_errors(self._target):
            self._file.discard()
            self._file.closed = True  # or it would be sent when it is collected

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
    """An upload that is given up unless the block ends well.  The block has to commit it."""
    upload = Upload(target)
    try:
        yield upload
    except BaseException:
        with uninterrupted(), suppress(StorageError):  # the first failure is the one to tell
            upload.discard()
        raise


def remove(target: "UPath") -> None:
    """Remove an object that should not be there, if the store lets us."""
    with suppress(StorageError), translating_errors(target):
        target.fs.rm_file(target.path)
