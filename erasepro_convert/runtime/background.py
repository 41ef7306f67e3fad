"""Threads that do work in order while the caller continues."""

import hashlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Argument = TypeVar("Argument")


class BackgroundThread:
    """A thread that does submitted work in order, such as adding bytes to a digest.

    Hashing, reading and writing release the interpreter lock, so the caller runs meanwhile.
    """

    QUEUE_LIMIT = 4
    """The calls that may wait; the arguments of a waiting call stay in memory."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[object]] = deque()

    def submit(self, work: Callable[[Argument], object], argument: Argument) -> None:
        """Queue ``work(argument)``, after waiting while the queue is full.

        Raises what an earlier call raised.
        """
        if len(self._waiting) == self.QUEUE_LIMIT:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(work, argument))

    def wait(self) -> None:
        """Wait until all submitted work is done.  Raises what it raised."""
        while self._waiting:
            self._waiting.popleft().result()


class BackgroundDigest:
    """A SHA-256 digest to which another thread adds the bytes.

    Small pieces are handed over together, since handing over takes longer than hashing them.  The
    bytes of a piece must stay as they are.
    """

    HANDOVER_SIZE = 64 << 10
    """The bytes that are handed over at once, at least."""

    def __init__(self, beginning: bytes = b"") -> None:
        self._digest = hashlib.sha256(beginning)
        self._thread = BackgroundThread()
        self._pieces: list[memoryview] = []
        self._size = 0

    def update(self, piece: memoryview) -> None:
        """Add bytes."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= self.HANDOVER_SIZE:
            self._hand_over()

    def hexdigest(self) -> str:
        """Return the digest of all bytes added so far."""
        self._hand_over()
        self._thread.wait()
        return self._digest.hexdigest()

    def _hand_over(self) -> None:
        self._thread.submit(self._add, self._pieces)
        self._pieces, self._size = [], 0

    def _add(self, pieces: list[memoryview]) -> None:
        for piece in pieces:
            self._digest.update(piece)
