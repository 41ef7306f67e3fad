"""A thread that does work in order while the caller continues."""

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
