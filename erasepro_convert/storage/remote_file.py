"""An object in a store, read like an open file by requests for ranges of its bytes.

A request takes as long as the transfer of about a megabyte.  Ranges that will be read soon are
therefore requested in advance, several at once, and ranges close together in one request.
"""

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from erasepro_convert.errors import CheckpointError, MissingObjectError, StorageError
from erasepro_convert.runtime.memory import CHUNK_SIZE
from erasepro_convert.storage.byte_ranges import ObjectStat, RangeReader, open_range_reader
from erasepro_convert.storage.failures import translating_errors, with_retries
from erasepro_convert.storage.location import Location, redacted

if TYPE_CHECKING:
    from upath import UPath

BLOCK_SIZE = 8 << 20
"""The most bytes that one request asks for."""

GAP_LIMIT = 128 << 10
"""Bytes.  A gap between two ranges that is no larger is read too, in the same request."""

PAGE_SIZE, PAGES_KEPT = 512 << 10, 32
"""The bytes of a page, and how many pages are kept.

Small ranges are read in pages, since the next small range is often near.
"""

PREFETCHED_REQUESTS, PREFETCHED_BYTES = 8, 32 << 20
"""The most requests and bytes that are on their way or wait to be used."""

READ_LIMIT = 256 << 20
"""Bytes that ``read_bytes`` reads at most; the manifest of a thousand concepts has a tenth."""

Span = tuple[int, int]
"""The start of a range of bytes and its length."""

GetRange = Callable[[int, int], bytes]
"""Reads the bytes from a start up to an end."""


class RemoteFile:
    """An object in a store, open for reading at any position.  OpenFile has the same methods.

    Reading fails when the object has been replaced since it was opened.
    """

    gap_limit = GAP_LIMIT

    def __init__(self, location: "UPath") -> None:
        """Raise CheckpointError for an empty object, MissingObjectError where there is none."""
        with translating_errors(location):
            try:
                self._reader: RangeReader = with_retries(lambda: open_range_reader(location))
            except FileNotFoundError:
                raise MissingObjectError(f"{redacted(location)}: there is no such object") from None
        if self.stat.size == 0:
            raise CheckpointError("it is empty")
        self.size = self.stat.size
        self._given_up = Event()
        # Threads that read hold no reference to this object, so that it can be finalised.
        self.get: GetRange = partial(_get, self._reader, location, self._given_up)
        self._page = lru_cache(PAGES_KEPT)(partial(_page, self.get, self.size))
        weakref.finalize(self, self._given_up.set)

    @property
    def stat(self) -> ObjectStat:
        """What the store reports of the object."""
        return self._reader.stat

    def read(self, start: int, count: int) -> bytearray:
        """Read ``count`` bytes from ``start`` on.

        Raises CheckpointError when the object is too short or has been replaced, StorageError when
        the store fails.
        """
        content = bytearray()
        for piece in self.chunks(start, count):
            content += piece
        return content

    def read_into(self, view: memoryview, start: int) -> None:
        """Fill ``view`` with the bytes from ``start`` on.  Raises what ``read`` does."""
        done = 0
        for piece in self.chunks(start, len(view)):
            view[done : done + len(piece)] = piece
            done += len(piece)

    def copy(self, start: int, count: int, target: int) -> int:
        """Copy nothing, since the kernel cannot copy from a store, and return 0."""
        return 0

    def chunks(self, start: int, count: int) -> Iterator[memoryview]:
        """Give ``count`` bytes from ``start`` on, in chunks.  Raises what ``read`` does."""
        end = start + count
        if count > GAP_LIMIT or end > self.size:
            yield from self.prefetching([(start, count)]).chunks(start, count)
            return
        while start < end:
            number, skipped = divmod(start, PAGE_SIZE)
            piece = memoryview(self._page(number))[skipped:][: end - start]
            yield piece
            start += len(piece)

    def give_up(self) -> None:
        """Make all further reading fail, and stop retrying what failed."""
        self._given_up.set()

    def prefetching(self, spans: Iterable[Span]) -> "Prefetcher":
        """Return a reader that requests these ranges ahead; read them in this order."""
        return Prefetcher(self, spans)


def _get(reader: RangeReader, location: "UPath", given_up: Event, start: int, end: int) -> bytes:
    """Read a range in one request, with retries.  Raises what ``RemoteFile.read`` does."""
    with translating_errors(location):
        return with_retries(partial(reader.get, start, end), given_up)


def _page(get: GetRange, size: int, number: int) -> bytes:
    """Read one page of an object of ``size`` bytes."""
    return get(number * PAGE_SIZE, min((number + 1) * PAGE_SIZE, size))


class Prefetcher:
    """Reads ranges of an object in a given order, and requests the next ones in advance.

    Other ranges can be read too, only slower.  Only one thread may use a Prefetcher.
    """

    def __init__(self, file: RemoteFile, spans: Iterable[Span]) -> None:
        self._file, self.size = file, file.size
        self._blocks = deque(request_blocks(spans, file.size))
        self._requested: deque[tuple[int, int, Future[bytes]]] = deque()
        self._get = file.get
        self._threads = ThreadPoolExecutor(PREFETCHED_REQUESTS) if len(self._blocks) > 1 else None

    def read(self, start: int, count: int) -> bytearray:
        """Read ``count`` bytes from ``start`` on.  Raises what ``RemoteFile.read`` does."""
        content = bytearray()
        for piece in self.chunks(start, count):
            content += piece
        return content

    def chunks(self, start: int, count: int) -> Iterator[memoryview]:
        """Give ``count`` bytes from ``start`` on, in chunks.

        Raises what ``RemoteFile.read`` does.
        """
        end = start + count
        if end > self.size:
            raise CheckpointError(f"it is cut short: {end} bytes needed, {self.size} there")
        while start < end:
            first, content = self._block(start, min(end, start + BLOCK_SIZE))
            wanted = memoryview(content)[start - first :][: end - start]
            for position in range(0, len(wanted), CHUNK_SIZE):
                yield wanted[position : position + CHUNK_SIZE]
            start += len(wanted)

    def _block(self, start: int, end: int) -> tuple[int, bytes]:
        """Return the start and bytes of the block that holds ``start``, requested if need be."""
        planned = (*((s, e) for s, e, _ in self._requested), *self._blocks)
        if not any(s <= start < e for s, e in planned):
            return start, self._get(start, end)
        while True:
            self._request_next()
            first, last, future = self._requested[0]
            if first <= start < last:
                return first, future.result()
            self._requested.popleft()
            future.cancel()

    def _request_next(self) -> None:
        """Request the next blocks, as many as may be on their way."""
        while self._blocks:
            start, end = self._blocks[0]
            size = sum(e - s for s, e, _ in self._requested) + end - start
            if self._requested and (
                len(self._requested) == PREFETCHED_REQUESTS or size > PREFETCHED_BYTES
            ):
                return
            self._blocks.popleft()
            self._requested.append((start, end, self._request(start, end)))

    def _request(self, start: int, end: int) -> Future[bytes]:
        if self._threads:
            return self._threads.submit(self._get, start, end)
        done: Future[bytes] = Future()
        done.set_result(self._get(start, end))
        return done


def request_blocks(spans: Iterable[Span], size: int) -> Iterator[tuple[int, int]]:
    """Give the start and end of each request that ``spans`` of a file need, in order."""
    start = end = size
    for first, count in spans:
        last = min(first + count, size)
        if first >= last:
            continue
        if not end <= first <= end + GAP_LIMIT:
            yield from _split(start, end)
            start = first
        end = last
    yield from _split(start, end)


def _split(start: int, end: int) -> Iterator[tuple[int, int]]:
    for first in range(start, end, BLOCK_SIZE):
        yield first, min(first + BLOCK_SIZE, end)


def read_bytes(location: Location) -> bytes:
    """Read a small file whole.  Raises StorageError for a failure, and for a large object."""
    if isinstance(location, Path):
        return location.read_bytes()
    file = RemoteFile(location)
    if file.size > READ_LIMIT:
        raise StorageError(f"{redacted(location)}: has {file.size} bytes, too many for a manifest")
    return bytes(file.read(0, file.size))
