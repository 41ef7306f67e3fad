"""Jobs are done one after the other, and can be cancelled."""

import threading
from collections.abc import Callable, Iterator
from time import monotonic, sleep

import pytest

from erasepro_convert.errors import UsageError
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.ui.jobs import Job, Jobs


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    jobs = Jobs()
    yield jobs
    jobs.close()


def wait_for(condition: Callable[[], bool]) -> None:
    end = monotonic() + 10
    while not condition():
        assert monotonic() < end, "it takes too long"
        sleep(0.01)


def until(gate: threading.Event) -> Callable[[Progress], str]:
    """Return work that goes on until a gate opens."""

    def work(progress: Progress) -> str:
        while not gate.is_set():
            progress("erase: a note", 1, 4)
            sleep(0.01)
        return "result"

    return work


def test_a_job_says_how_far_it_is_and_what_came_of_it(jobs: Jobs) -> None:
    gate = threading.Event()
    job = jobs.submit("write", "Writing", until(gate), {"field": "value"})
    wait_for(lambda: job.total == 4)
    assert (job.state, job.stage, job.done) == ("running", "erase", 1)
    assert jobs.open() == [job]
    gate.set()
    wait_for(lambda: job.is_over)
    assert (job.state, job.result, job.request["field"]) == ("done", "result", "value")
    assert jobs.open() == []
    assert jobs.get(job.number) is job
    assert jobs.get(99) is None
    assert jobs.latest("write") is job
    assert jobs.latest("try") is None


def test_a_second_job_waits_for_the_first(jobs: Jobs) -> None:
    gate = threading.Event()
    first = jobs.submit("write", "first", until(gate))
    second = jobs.submit("write", "second", lambda _: threading.get_ident())
    wait_for(lambda: first.state == "running")
    sleep(0.05)
    assert second.state == "waiting"
    gate.set()
    wait_for(lambda: second.state == "done")
    assert jobs.all() == [first, second]


def test_a_running_job_is_cancelled_by_its_progress(jobs: Jobs) -> None:
    job = jobs.submit("write", "Writing", until(threading.Event()))
    wait_for(lambda: job.state == "running")
    jobs.cancel(job.number)
    wait_for(lambda: job.is_over)
    assert (job.state, job.result, job.error) == ("cancelled", None, None)


def test_a_waiting_job_never_begins_once_it_is_cancelled(jobs: Jobs) -> None:
    gate, ran = threading.Event(), []
    first = jobs.submit("write", "first", until(gate))
    second = jobs.submit("write", "second", lambda _: ran.append(1))
    jobs.cancel(second.number)
    gate.set()
    wait_for(lambda: first.is_over)
    assert second.state == "cancelled"
    assert not ran


def test_an_error_ends_its_job_alone(jobs: Jobs) -> None:
    def fail(_: Progress) -> None:
        raise UsageError("no such file")

    failed = jobs.submit("write", "Writing", fail)
    after = jobs.submit("write", "Writing", lambda _: 1)
    wait_for(lambda: after.is_over)
    assert (failed.state, str(failed.error)) == ("failed", "no such file")
    jobs.cancel(failed.number)
    assert failed.state == "failed", "what is over stays as it is"
    assert after.result == 1


def test_every_change_counts(jobs: Jobs) -> None:
    before = jobs.revision
    job = jobs.submit("try", "Trying", lambda progress: progress("erase", 1, 2))
    wait_for(lambda: job.is_over)
    assert jobs.revision >= before + 4  # submitted, begun, told, over


def test_closing_ends_what_runs_and_what_waits() -> None:
    jobs = Jobs()
    all_jobs: list[Job] = [jobs.submit("x", "x", until(threading.Event())) for _ in range(3)]
    jobs.close()
    assert [job.state for job in all_jobs] == ["cancelled"] * 3
