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
from erasepro_convert.batch.worker import Result, Task
from erasepro_convert.errors import BatchError, UsageError
from erasepro_convert.runtime.memory import configure_allocator
from erasepro_convert.runtime.software_versions import (
    SoftwareVersions,
    software_versions,
    version_differences,
)
from erasepro_convert.storage.location import Location, absolute

try:
    import distributed
    from distributed.comm import resolve_address  # type: ignore[attr-defined]  # it is re-exported
except ImportError as error:
    raise UsageError(
        "a cluster needs more libraries: pip install 'erasepro-convert[cluster]'"
    ) from error

CONNECT_TIMEOUT = 30
"""Seconds in which a scheduler must answer."""
STOP_TIMEOUT = 60
"""Seconds that workers have for stopping cancelled tasks."""
POLL_INTERVAL = 0.2
"""Seconds between looks at whether workers have stopped."""
SHOWN_WORKERS = 5
"""How many workers a message lists."""

Key = tuple[str, str, str]
"""The key of a task at the scheduler."""


@contextmanager
def connect(address: str, folder: Location) -> Iterator["Cluster"]:
    """Connect to a scheduler whose workers see ``folder`` and have this process's software.

    Raises UsageError where there are no workers, or unfit ones.
    """
    try:
        resolve_address(address)  # with an address that it cannot read a client takes a minute
        client = distributed.Client(address, timeout=CONNECT_TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"{address}: no scheduler to be reached there ({error})") from error
    # The library reports a lost scheduler with traces; BatchError reports it in one sentence.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    with client:
        _require_fit_workers(client, address, folder)
        yield Cluster(client, address)


class Cluster(Executor):
    """Carries out tasks, one in each thread of a worker.

    It uses the client's own ``concurrent.futures`` interface, and adds to it that cancelled tasks
    are stopped, and that the death of a worker or of the scheduler is reported in plain words.
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
        """How many threads the workers have by now, and so how many tasks can run at once."""
        return sum(self._client.nthreads().values())

    def open(self) -> "Cluster":
        """Return this executor.  Raises BatchError where its scheduler is gone."""
        if self._lost:
            raise BatchError(
                f"{self._address}: the scheduler is gone; what was done stands in the record, "
                "run it again for the rest",
                1,
            )
        return self

    def submit(self, work: Work, task: Task) -> Future[Result]:  # type: ignore[override]
        """Run ``work`` on a task in a worker."""
        if self._lost:
            raise BrokenExecutor
        # All keys share their first part, since the scheduler keeps statistics by it for ever.
        key = ("erasepro-convert", task.output, token_hex(8))
        outer: Future[Result] = Future()
        outer.set_running_or_notify_cancel()
        self._at_work[key] = task, outer
        remote = partial(_carry_out, work, _with_absolute_paths(task), software_versions())
        self._executor.submit(remote, key=key).add_done_callback(partial(self._pass_on, key))
        return outer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut down; with ``cancel_futures`` running tasks are stopped too.

        The future of a task that does not stop in time, or that ends meanwhile, never completes.
        """
        if not (cancel_futures and self._at_work) or self._lost:
            return
        self._stopping = True
        self._executor.shutdown(wait=False)
        deadline = time.monotonic() + STOP_TIMEOUT
        running, stopped = set(self._at_work), set[Key]()
        while running & set(self._at_work) and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL)
            running, stopped = self._ask_workers()
        for key in stopped:
            if at_work := self._at_work.pop(key, None):
                at_work[1].set_exception(CancelledError())

    def progress(self) -> Iterator[tuple[Task, Progress]]:
        """Give each running task; only its worker knows its progress."""
        for task, _ in list(self._at_work.values()):
            yield task, Progress(0, 0, 0, 0, 0)

    def _ask_workers(self) -> tuple[set[Key], set[Key]]:
        """Return the keys of tasks that run in any worker, and of those that were stopped."""
        try:
            reports = self._client.run(_report_tasks, on_error="ignore").values()
        except OSError:  # the scheduler is gone
            return set(), set()
        running = {key for running_there, _ in reports for key in running_there}
        stopped = {key for _, stopped_there in reports for key in stopped_there}
        return running, stopped

    def _pass_on(self, key: Key, inner: Future[Result]) -> None:
        """Pass on how a task ended."""
        if inner.cancelled() and self._stopping:
            return  # the task ends when its worker says so
        if not (at_work := self._at_work.pop(key, None)):
            return
        outer = at_work[1]
        if inner.cancelled() and self._client.status != "running":
            self._lost = True
            outer.set_exception(BrokenExecutor("the scheduler is gone"))
        elif inner.cancelled():
            reason = "somebody cancelled it at the scheduler"
            outer.set_result(Result("failed", reason=reason, worker_died=True))
        elif isinstance(died := inner.exception(), distributed.KilledWorker):
            reason = f"its workers died, {died.allowed_failures + 1} of them: killed, or out of"
            outer.set_result(Result("failed", reason=f"{reason} memory?", worker_died=True))
        elif error := inner.exception():
            outer.set_exception(error)
        else:
            outer.set_result(inner.result())


def _require_fit_workers(client: distributed.Client, address: str, folder: Location) -> None:
    """Raise UsageError where there are no workers, or some do not see the folder or differ."""
    if isinstance(folder, Path):
        with NamedTemporaryFile(prefix=".batch-", dir=folder) as token:
            inspected = client.run(inspect_worker, Path(token.name).absolute(), on_error="return")
    else:
        inspected = client.run(inspect_worker, None, on_error="return")
    if not inspected:
        raise UsageError(f"{address}: the scheduler has no workers")
    unfit = [
        f"- {worker}: {why}" for worker, found in inspected.items() if (why := _why_unfit(found))
    ]
    if unfit:
        left = len(unfit) - SHOWN_WORKERS
        more = [f"- and {left} more"] if left > 0 else []
        heading = f"{len(unfit)} of {len(inspected)} workers are not fit:"
        raise UsageError("\n".join([heading, *unfit[:SHOWN_WORKERS], *more]))


def _why_unfit(inspected: tuple[SoftwareVersions, str | None] | Exception) -> str:
    """Say why a worker is not fit, by what ``inspect_worker`` gave; empty where it is fit."""
    if isinstance(inspected, Exception):
        return f"{type(inspected).__name__}: {inspected}"
    worker_versions, folder_problem = inspected
    differences = version_differences(worker_versions, software_versions())
    return "; ".join([*differences, *filter(None, [folder_problem])])


def _with_absolute_paths(task: Task) -> Task:
    """Return a task whose paths do not depend on a worker's working directory."""
    options, candidate = task.options, task.link_candidate
    absolute_options = replace(
        options,
        text_encoder=options.text_encoder and absolute(options.text_encoder),
        sign=options.sign and options.sign.absolute(),
        certificate=options.certificate and options.certificate.absolute(),
        chain=tuple(path.absolute() for path in options.chain),
        beside=tuple(path.absolute() for path in options.beside),
    )
    return replace(
        task,
        source=absolute(task.source),
        target=absolute(task.target),
        options=absolute_options,
        link_candidate=candidate and replace(candidate, path=candidate.path.absolute()),
    )


# In a worker ----------------------------------------------------------------------------------

Status = distributed.Status
RUNNING = (Status.running, Status.paused, Status.closing_gracefully)
"""The states of a worker that still carries out tasks."""

_running: set[Any] = set()
_stopped: set[Any] = set()
"""Keys of the tasks that are at work in this process, and of those that were interrupted."""


def inspect_worker(token: Path | None) -> tuple[SoftwareVersions, str | None]:
    """Return this worker's software, and what is wrong with the output folder as seen from it."""
    if token is None:
        return software_versions(), None
    if not token.exists():
        return software_versions(), f"{token.parent} is not the same folder there"
    if not os.access(token.parent, os.W_OK):
        return software_versions(), f"{token.parent} cannot be written to there"
    return software_versions(), None


def _report_tasks() -> tuple[set[Key], set[Key]]:
    """Return the keys of tasks that run in this worker, and of those that were stopped."""
    return set(_running), set(_stopped)


def _carry_out(work: Work, task: Task, expected: SoftwareVersions) -> Result:
    """Carry out a task if this worker, which may have joined later, has the expected software."""
    worker = distributed.get_worker()
    if differences := version_differences(software_versions(), expected):
        return Result("failed", reason=f"{worker.address}: {'; '.join(differences)}")
    key = worker.get_current_task()
    configure_allocator()
    _running.add(key)
    try:
        return work(task, partial(_stop_if_cancelled, worker, key))
    except KeyboardInterrupt:  # it would end the worker
        _stopped.add(key)
        raise distributed.Reschedule from None  # another client may still want the task
    finally:
        _running.discard(key)


def _stop_if_cancelled(worker: distributed.Worker, key: Any, *_: object) -> None:
    """Interrupt a task that was cancelled, or whose worker has lost the scheduler.

    distributed has no documented way to ask from inside a task whether it was cancelled, so that
    the worker's own state is read.  ``test_dask_cluster`` interrupts batches and cancels tasks, and
    fails if a version of distributed keeps this state elsewhere.
    """
    known = worker.state.tasks.get(key)
    if not known or known.state == "cancelled" or worker.status not in RUNNING:
        raise KeyboardInterrupt
