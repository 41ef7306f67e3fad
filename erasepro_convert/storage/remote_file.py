"""An object in a store, read like an open file, by requests for parts of it.

A request costs as long as a megabyte or so takes, so what is read soon is asked for ahead, several
parts at once, and what lies close together in one.
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
from erasepro_convert.storage.byte_ranges import Ranges, Stated, ranges_of
from erasepro_convert.storage.failures import translating_errors, with_retries
from erasepro_convert.storage.location import Location, redacted

if TYPE_CHECKING:
    from upath import UPath

BLOCK = 8 << 20
"""Bytes that one request asks for at most."""

NEAR = 128 << 10
"""Bytes: what lies between two parts and is not more travels along."""

PAGE, PAGES = 512 << 10, 32
"""What is small is read with its surroundings, since the next thing is there; how many are kept."""

AHEAD_REQUESTS, AHEAD_BYTES = 8, 32 << 20
"""How much is on its way, or waits to be used, at most."""

SMALL = 256 << 20
"""Bytes; the manifest of a thousand concepts has a tenth of that."""

Span = tuple[int, int]
"""Where bytes begin, and how many there are."""

Get = Callable[[int, int], bytes]


class RemoteFile:
    """An object that stays the same while it is read; see OpenFile, which has the same methods."""

    near = NEAR

    def __init__(self, location: "UPath") -> None:
        """Raise CheckpointError for an empty object, MissingObjectError for none at all."""
        with translating_errors(location):
            try:
                self._ranges: Ranges = with_retries(lambda: ranges_of(location))
            except FileNotFoundError:
                raise MissingObjectError(f"{redacted(location)}: there is no such object") from None
        if self.stated.size == 0:
            raise CheckpointError("it is empty")
        self.size = self.stated.size
        self._given_up = Event()
        # Threads that bring something hold no reference to this object.
        self.get: Get = partial(_get, self._ranges, location, self._given_up)
        self._page = lru_cache(PAGES)(partial(_page, self.get, self.size))
        weakref.finalize(self, self._given_up.set)

    @property
    def stated(self) -> Stated:
        """What the store says of it."""
        return self._ranges.stated

    def read(self, start: int, count: int) -> bytearray:
        """``count`` bytes from ``start`` on.

        Raises CheckpointError when the object ends before or has been replaced, StorageError when
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
        """No kernel copies what is not here."""
        return 0

    def chunks(self, start: int, count: int) -> Iterator[memoryview]:
        """The same bytes in pieces."""
        end = start + count
        if count > NEAR or end > self.size:
            yield from self.ahead([(start, count)]).chunks(start, count)
            return
        while start < end:
            number, skipped = divmod(start, PAGE)
            piece = memoryview(self._page(number))[skipped:][: end - start]
            yield piece
            start += len(piece)

    def give_up(self) -> None:
        """Make what is read from now on fail, and what failed not be tried again."""
        self._given_up.set()

    def ahead(self, spans: Iterable[Span]) -> "Ahead":
        """The same file for one that will read these parts, in this order."""
        return Ahead(self, spans)


def _get(ranges: Ranges, location: "UPath", given_up: Event, start: int, end: int) -> bytes:
    """A part, in one request (or some more after a failure).  Raises what ``read`` does."""
    with translating_errors(location):
        return with_retries(partial(ranges.get, start, end), given_up)


def _page(get: Get, size: int, number: int) -> bytes:
    return get(number * PAGE, min((number + 1) * PAGE, size))


class Ahead:
    """Reads parts of an object in the order that was announced, while the next are on their way.

    Parts out of that order are read too, only slower.  For one thread.
    """

    def __init__(self, file: RemoteFile, spans: Iterable[Span]) -> None:
        self._file, self.size = file, file.size
        self._blocks = deque(blocks(spans, file.size))
        self._coming: deque[tuple[int, int, Future[bytes]]] = deque()
        self._get = file.get
        self._threads = ThreadPoolExecutor(AHEAD_REQUESTS) if len(self._blocks) > 1 else None

    def read(self, start: int, count: int) -> bytearray:
        """See RemoteFile."""
        content = bytearray()
        for piece in self.chunks(start, count):
            content += piece
        return content

    def chunks(self, start: int, count: int) -> Iterator[memoryview]:
        """See RemoteFile."""
        end = start + count
        if end > self.size:
            raise CheckpointError(f"it is cut short: {end} bytes needed, {self.size} there")
        while start < end:
            first, content = self._block(start, min(end, start + BLOCK))
            wanted = memoryview(content)[start - first :][: end - start]
            for position in range(0, len(wanted), CHUNK_SIZE):
                yield wanted[position : position + CHUNK_SIZE]
            start += len(wanted)

    def _block(self, start: int, end: int) -> tuple[int, bytes]:
        """A block that holds ``start``, and where it begins; one up to ``end`` if none is ahead."""
        ahead = (*((s, e) for s, e, _ in self._coming), *self._blocks)
        if not any(s <= start < e for s, e in ahead):
            return start, self._get(start, end)
        while True:
            self._ask()
            first, last, coming = self._coming[0]
            if first <= start < last:
                return first, coming.result()
            self._coming.popleft()
            coming.cancel()

    def _ask(self) -> None:
        """Have the next blocks brought, as many as may be on their way."""
        while self._blocks:
            start, end = self._blocks[0]
            size = sum(e - s for s, e, _ in self._coming) + end - start
            if self._coming and (len(self._coming) == AHEAD_REQUESTS or size > AHEAD_BYTES):
                return
            self._blocks.popleft()
            self._coming.append((start, end, self._begin(start, end)))

    def _begin(self, start: int, end: int) -> Future[bytes]:
        if self._threads:
            return self._threads.submit(self._get, start, end)
        only: Future[bytes] = Future()
        only.set_result(self._get(start, end))
        return only


def blocks(spans: Iterable[Span], size: int) -> Iterator[tuple[int, int]]:
    """Beginnings and ends of the requests for some parts of a file of ``size``, in their order."""
    start = end = size
    for first, count in spans:
        last = min(first + count, size)
        if first >= last:
            continue
        if not end <= first <= end + NEAR:
            yield from _cut(start, end)
            start = first
        end = last
    yield from _cut(start, end)


def _cut(start: int, end: int) -> Iterator[tuple[int, int]]:
    for first in range(start, end, BLOCK):
        yield first, min(first + BLOCK, end)


def read_bytes(location: Location) -> bytes:
    """All of a small file.  Raises StorageError, also for what is no small file."""
    if isinstance(location, Path):
        return location.read_bytes()
    file = RemoteFile(location)
    if file.size > SMALL:
        raise StorageError(f"{redacted(location)}: has {file.size} bytes, too many for a manifest")
    return bytes(file.read(0, file.size))
