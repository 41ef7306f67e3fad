"""The workers of a dask.distributed cluster as an executor."""

import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from secrets import token_hex
from tempfile import NamedTemporaryFile
from typing import Any

from erasepro_convert.batch.process_pool import Progress, Work
from erasepro_convert.batch.software_versions import Identity, differences, identity
from erasepro_convert.batch.worker import Result, Task
from erasepro_convert.errors import BatchError, UsageError
from erasepro_convert.runtime.memory import give_back_memory
from erasepro_convert.storage.location import Location, absolute

try:
    import distributed
    from distributed.comm.addressing import resolve_address
    from distributed.worker import WORKER_ANY_RUNNING
except ImportError as error:
    raise UsageError(
        "a cluster needs more libraries: pip install 'erasepro-convert[cluster]'"
    ) from error

CONNECT = 30
"""Seconds in which a scheduler must answer."""
PATIENCE = 60
"""Seconds that workers have for stopping what is cancelled."""
LOOK = 0.2
"""Seconds between looks at whether they have."""
SHOWN = 5
"""Workers that a message lists."""

Key = tuple[str, str, str]


@contextmanager
def connect(address: str, folder: Location) -> Iterator["Cluster"]:
    """The workers of a scheduler, which see ``folder`` and would write the same bytes as we.

    Raises UsageError where there are none, or some that do not.
    """
    try:
        resolve_address(address)  # a client that cannot read its address takes a minute to go away
        client = distributed.Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{address}: no scheduler to be reached there ({error})") from error
    # What it says of a lost scheduler, traces and all, we say in our words.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    with client:
        _require_like_us(client, address, folder)
        yield Cluster(client, address)


class Cluster(Executor):
    """Carries out tasks, one in each thread of a worker.

    It goes through the client's own ``concurrent.futures`` interface and adds what that has not: a
    cancelled task is stopped, and a dead worker or scheduler is named in plain words.
    """

    def __init__(self, client: distributed.Client, address: str) -> None:
        self._client = client
        self._address = address
        self._executor = client.get_executor(pure=False)
        self._at_work: dict[Key, tuple[Task, Future[Result]]] = {}
        self._stopping = False
        self._lost = False

    @property
    def threads(self) -> int:
        """Threads that the workers have by now: so much can be done at once."""
        return sum(self._client.nthreads().values())

    def open(self) -> "Cluster":
        """This, as long as there is a scheduler.  Raises BatchError when it is gone."""
        if self._lost:
            raise BatchError(
                f"{self._address}: the scheduler is gone; what was done stands in the record, "
                "run it again for the rest",
                1,
            )
        return self

    def submit(self, work: Work, task: Task) -> Future[Result]:  # type: ignore[override]
        """Have ``work`` done on a task."""
        if self._lost:
            raise BrokenExecutor
        # Its first part is the same for all: the scheduler keeps figures by it for ever.
        key = ("erasepro-convert", task.output, token_hex(8))
        outer: Future[Result] = Future()
        outer.set_running_or_notify_cancel()
        self._at_work[key] = task, outer
        there = partial(_carry_out, work, _absolute(task), identity())
        self._executor.submit(there, key=key).add_done_callback(partial(self._land, key))
        return outer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As in the library; with ``cancel_futures`` what is at work is stopped too.

        What has not stopped in time, or came to its end meanwhile, stays without one here.
        """
        if not (cancel_futures and self._at_work) or self._lost:
            return
        self._stopping = True
        self._executor.shutdown(wait=False)
        deadline = time.monotonic() + PATIENCE
        running, stopped = set(self._at_work), set[Key]()
        while running & set(self._at_work) and time.monotonic() < deadline:
            time.sleep(LOOK)
            running, stopped = self._ask()
        for key in stopped:
            if at_work := self._at_work.pop(key, None):
                at_work[1].set_exception(CancelledError())

    def progress(self) -> Iterator[tuple[Task, Progress]]:
        """Each task at work; how far it is, only its worker knows."""
        for task, _ in list(self._at_work.values()):
            yield task, Progress(0, 0, 0, 0, 0)

    def _ask(self) -> tuple[set[Key], set[Key]]:
        """What is at work in any worker, and what was stopped."""
        try:
            found = self._client.run(_tell, on_error="ignore").values()
        except OSError:  # the scheduler is gone, and what it had at work is without an end
            return set(), set()
        return {key for at, _ in found for key in at}, {key for _, off in found for key in off}

    def _land(self, key: Key, inner: Future[Result]) -> None:
        """Pass on how a task ended."""
        if inner.cancelled() and self._stopping:
            return  # it has ended when its worker says so
        if not (at_work := self._at_work.pop(key, None)):
            return
        outer = at_work[1]
        if inner.cancelled() and self._client.status != "running":
            self._lost = True
            outer.set_exception(BrokenExecutor("the scheduler is gone"))
        elif inner.cancelled():
            reason = "somebody cancelled it at the scheduler"
            outer.set_result(Result("failed", reason=reason, died=True))
        elif isinstance(died := inner.exception(), distributed.KilledWorker):
            reason = f"its workers died, {died.allowed_failures + 1} of them: killed, or out of"
            outer.set_result(Result("failed", reason=f"{reason} memory?", died=True))
        elif error := inner.exception():
            outer.set_exception(error)
        else:
            outer.set_result(inner.result())


def _require_like_us(client: distributed.Client, address: str, folder: Location) -> None:
    if isinstance(folder, Path):
        with NamedTemporaryFile(prefix=".batch-", dir=folder) as token:
            found = client.run(_look, Path(token.name).absolute(), on_error="return")
    else:
        found = client.run(_look, None, on_error="return")
    if not found:
        raise UsageError(f"{address}: the scheduler has no workers")
    wrong = [f"- {worker}: {why}" for worker, seen in found.items() if (why := _wrong(seen))]
    if wrong:
        more = [f"- and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
        raise UsageError(
            "\n".join([f"{len(wrong)} of {len(found)} workers are not fit:", *wrong[:SHOWN], *more])
        )


def _wrong(seen: tuple[Identity, str | None] | Exception) -> str:
    """Why a worker is not fit; nothing where it is."""
    if isinstance(seen, Exception):
        return f"{type(seen).__name__}: {seen}"
    theirs, blind = seen
    return "; ".join([*differences(theirs, identity()), *filter(None, [blind])])


def _absolute(task: Task) -> Task:
    """The task with paths that mean the same wherever a worker was started."""
    asked, twin = task.options, task.twin
    options = replace(
        asked,
        text_encoder=asked.text_encoder and absolute(asked.text_encoder),
        sign=asked.sign and asked.sign.absolute(),
        certificate=asked.certificate and asked.certificate.absolute(),
        chain=tuple(path.absolute() for path in asked.chain),
        beside=tuple(path.absolute() for path in asked.beside),
    )
    return replace(
        task,
        source=absolute(task.source),
        target=absolute(task.target),
        options=options,
        twin=twin and replace(twin, path=twin.path.absolute()),
    )


# In a worker ----------------------------------------------------------------------------------

_running: set[Any] = set()
_stopped: set[Any] = set()
"""Keys of the tasks that are at work in this process, and of those that were interrupted."""


def _look(token: Path | None) -> tuple[Identity, str | None]:
    """What is installed here, and what is wrong with the output folder as seen from here."""
    if token is None:
        return identity(), None
    if not token.exists():
        return identity(), f"{token.parent} is not the same folder there"
    if not os.access(token.parent, os.W_OK):
        return identity(), f"{token.parent} cannot be written to there"
    return identity(), None


def _tell() -> tuple[set[Key], set[Key]]:
    return set(_running), set(_stopped)


def _carry_out(work: Work, task: Task, expected: Identity) -> Result:
    """Carry out a task unless something else is installed here: a worker may have come later."""
    worker = distributed.get_worker()
    if wrong := differences(identity(), expected):
        return Result("failed", reason=f"{worker.address}: {'; '.join(wrong)}")
    key = worker.get_current_task()
    give_back_memory()
    _running.add(key)
    try:
        return work(task, partial(_stop, worker, key))
    except KeyboardInterrupt:  # it would end the worker
        _stopped.add(key)
        raise distributed.Reschedule from None  # for whoever still wants it
    finally:
        _running.discard(key)


def _stop(worker: distributed.Worker, key: Any, *_: object) -> None:
    """Interrupt a task that nobody waits for any more: cancelled, or lost with its worker."""
    known = worker.state.tasks.get(key)
    if not known or known.state == "cancelled" or worker.status not in WORKER_ANY_RUNNING:
        raise KeyboardInterrupt
