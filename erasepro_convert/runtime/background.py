"""Work in another thread, in order, while the caller goes on."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Argument = TypeVar("Argument")


class BackgroundThread:
    """A thread for work to be done in order, such as adding bytes to a digest.

    Hashing, reading and writing let other threads run.
    """

    DEPTH = 4
    """How much may wait: what is to be hashed stays in memory so long."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._waiting: deque[Future[object]] = deque()

    def run(self, work: Callable[[Argument], object], argument: Argument) -> None:
        """Have it done; wait where too much does.  Raises what earlier work raised."""
        if len(self._waiting) == self.DEPTH:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(work, argument))

    def join(self) -> None:
        """Wait until all is done.  Raises what it raised."""
        while self._waiting:
            self._waiting.popleft().result()
