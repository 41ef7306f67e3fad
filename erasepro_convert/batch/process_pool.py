"""Processes of this machine as an executor that shows how far each is and can be stopped."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import connection, get_context, parent_process
from time import monotonic
from typing import Any, NamedTuple

from erasepro_convert.batch.worker import Result, Task
from erasepro_convert.runtime.memory import configure_allocator

STAGES = ("erase", "probe", "tune", "train")
"""What the erasure can be at, by its number on the board."""
FIELDS = 5
"""Numbers on the board for each job at work: those of ``Progress``."""
EVERY = 0.1
"""Seconds between notes on the board."""
OWNERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that a terminal sends to workers too, and that are their owner's to handle."""
PATIENCE = 60
"""Seconds that a worker has for cleaning up when the batch is dead."""

Work = Callable[[Task, Callable[[str, int, int], None]], Result]


class Progress(NamedTuple):
    """How far a job is: the erasure, and the writing beside it."""

    stage: int
    done: int
    total: int
    written: int
    to_write: int


class Processes(ProcessPoolExecutor):
    """A pool of processes that carry out tasks.

    They note how far they are on a board in shared memory, which needs no lock that a killed one
    could take with it.  When the pool is shut down with ``cancel_futures``, or its owner dies, they
    stop what they are at and clean up.
    """

    def __init__(self, count: int) -> None:
        """``count`` processes; each is started when there is work for it."""
        context = get_context("spawn")  # a fork would have the locks of threads that it has not
        places = 2 * count  # one is free again only a moment after its job's end
        self._board = context.RawArray("q", 1 + FIELDS * places)
        self._free = list(range(places))
        self._at_work: dict[int, Task] = {}
        super().__init__(count, context, initializer=_prepare, initargs=(self._board,))

    def submit(self, work: Work, task: Task) -> Future[Result]:  # type: ignore[override]
        """Have ``work`` done on a task."""
        place = self._free.pop()
        start = 1 + FIELDS * place
        self._board[start : start + FIELDS] = [0] * FIELDS
        self._at_work[place] = task

        def leave(_: object) -> None:
            del self._at_work[place]
            self._free.append(place)

        # A process that is started here has signals blocked until it can ignore them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, OWNERS)
        try:
            future = super().submit(_noting, work, task, start)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        future.add_done_callback(leave)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As in the library; with ``cancel_futures`` what is at work is stopped too."""
        if cancel_futures:
            self._board[0] = 1
        super().shutdown(wait, cancel_futures=cancel_futures)

    def progress(self) -> Iterator[tuple[Task, Progress]]:
        """Each task at work, and how far it is."""
        for place, task in sorted(self._at_work.items()):
            start = 1 + FIELDS * place
            yield task, Progress(*self._board[start : start + FIELDS])


_board: Any = None
_orphaned = threading.Event()
_busy = threading.Lock()


def _prepare(board: Any) -> None:
    """Set up a worker: signals are the owner's to handle, who tells it by the board."""
    global _board  # noqa: PLW0603  # the one place of a process for what its initialiser gets
    _board = board
    for number in OWNERS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OWNERS)
    configure_allocator()
    threading.Thread(target=_outlive_no_owner, daemon=True).start()


def _outlive_no_owner() -> None:
    """End the process after its owner's death; a pool's worker would wait for work for ever."""
    owner = parent_process()
    assert owner
    connection.wait([owner.sentinel])
    _orphaned.set()
    _busy.acquire(timeout=PATIENCE)  # not to be released
    os._exit(1)


def _noting(work: Work, task: Task, start: int) -> Result:
    last = 0.0

    def note(stage: str, done: int, total: int) -> None:
        nonlocal last
        if _board[0] or _orphaned.is_set():
            raise KeyboardInterrupt
        now = monotonic()
        stage = stage.partition(":")[0]
        if now - last < EVERY and done < total:
            return
        last = now
        if stage == "write":
            _board[start + 3 : start + 5] = done, total
        elif stage in STAGES:
            _board[start : start + 3] = STAGES.index(stage), done, total

    with _busy:
        return work(task, note)
