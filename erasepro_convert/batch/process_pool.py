"""A pool of local processes that report the progress of their tasks and can be stopped."""

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

STAGES = ("erase", "probe", "language", "train")
"""The stages of a conversion; shared memory has their numbers."""
FIELDS = 5
"""How many numbers shared memory has for each running task: those of ``Progress``."""
UPDATE_INTERVAL = 0.1
"""Seconds between updates of a task's progress in shared memory."""
OWNER_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that a terminal sends to workers too, but that only the owning process handles."""
CLEANUP_TIMEOUT = 60
"""Seconds that a worker has for cleaning up when its owner is dead."""

Work = Callable[[Task, Callable[[str, int, int], None]], Result]


class Progress(NamedTuple):
    """The progress of a job: of its current stage, and of the bytes written meanwhile."""

    stage: int
    done: int
    total: int
    written: int
    to_write: int


class ProcessPool(ProcessPoolExecutor):
    """A pool of processes that carry out tasks.

    Workers write their progress to shared memory without a lock, since a killed worker would never
    release one.  When the pool is shut down with ``cancel_futures``, or when its owner dies,
    workers stop their tasks and clean up.
    """

    def __init__(self, count: int) -> None:
        """Allow ``count`` processes; each is started when there is work for it."""
        context = get_context("spawn")  # a fork would inherit locks held by threads that it lacks
        places = 2 * count  # a place becomes free only a moment after its task has ended
        self._board = context.RawArray("q", 1 + FIELDS * places)
        self._free = list(range(places))
        self._at_work: dict[int, Task] = {}
        super().__init__(count, context, initializer=_prepare, initargs=(self._board,))

    def submit(self, work: Work, task: Task) -> Future[Result]:  # type: ignore[override]
        """Run ``work`` on a task in a worker."""
        place = self._free.pop()
        start = 1 + FIELDS * place
        self._board[start : start + FIELDS] = [0] * FIELDS
        self._at_work[place] = task

        def free_place(_: object) -> None:
            del self._at_work[place]
            self._free.append(place)

        # A process that is started here has signals blocked until it can ignore them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, OWNER_SIGNALS)
        try:
            future = super().submit(_run_with_progress, work, task, start)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        future.add_done_callback(free_place)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut down the pool; with ``cancel_futures`` running tasks are stopped too."""
        if cancel_futures:
            self._board[0] = 1
        super().shutdown(wait, cancel_futures=cancel_futures)

    def progress(self) -> Iterator[tuple[Task, Progress]]:
        """Give each running task with its progress."""
        for place, task in sorted(self._at_work.items()):
            start = 1 + FIELDS * place
            yield task, Progress(*self._board[start : start + FIELDS])


_board: Any = None
_orphaned = threading.Event()
_busy = threading.Lock()


def _prepare(board: Any) -> None:
    """Set up a worker, which ignores signals: its owner stops it through shared memory."""
    global _board  # noqa: PLW0603  # an initialiser can only pass something on in a global
    _board = board
    for number in OWNER_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OWNER_SIGNALS)
    configure_allocator()
    threading.Thread(target=_exit_with_owner, daemon=True).start()


def _exit_with_owner() -> None:
    """End the process after its owner's death; a pool's worker would wait for work for ever."""
    owner = parent_process()
    assert owner
    connection.wait([owner.sentinel])
    _orphaned.set()
    _busy.acquire(timeout=CLEANUP_TIMEOUT)  # not to be released
    os._exit(1)


def _run_with_progress(work: Work, task: Task, start: int) -> Result:
    last = 0.0

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        if _board[0] or _orphaned.is_set():
            raise KeyboardInterrupt
        now = monotonic()
        stage = stage.partition(":")[0]
        if now - last < UPDATE_INTERVAL and done < total:
            return
        last = now
        if stage == "write":
            _board[start + 3 : start + 5] = done, total
        elif stage in STAGES:
            _board[start : start + 3] = STAGES.index(stage), done, total

    with _busy:
        return work(task, report)
