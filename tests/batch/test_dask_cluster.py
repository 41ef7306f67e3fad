"""A batch on a dask cluster: a real scheduler and real workers, processes of this machine."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from io import StringIO
from pathlib import Path

import pytest
from distributed import Client
from rich.console import Console
from safetensors.torch import save_file

from erasepro_convert.batch import dask_cluster as clusters
from erasepro_convert.batch.dask_cluster import connect
from erasepro_convert.batch.jobs import Job
from erasepro_convert.batch.ledger import Ledger
from erasepro_convert.batch.locks import FOLDER
from erasepro_convert.batch.process_pool import Progress
from erasepro_convert.batch.worker import Task, carry_out
from erasepro_convert.cli.batch_view import BatchView
from erasepro_convert.conversion.options import Options
from erasepro_convert.errors import UsageError
from erasepro_convert.recipe import load_recipe
from erasepro_convert.runtime.software_versions import software_versions, version_differences
from tests.cluster_faults import GO
from tests.conftest import Cli
from tests.conversion.test_faults import TINY, names
from tests.miniature import state_dict

pytestmark = pytest.mark.network

ROOT = Path(__file__).parents[2]
LOCAL = ("--host", "127.0.0.1")
BARE = ("--no-dashboard", "--memory-limit", 0)
DEADLINE = 60
"""Seconds that anything may take, on a slow machine."""

Start = Callable[..., "Scheduler"]
Batch = Callable[..., list[object]]


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def process(
    *args: object, log: Path, path: Path = ROOT, **env: str
) -> Iterator["subprocess.Popen[str]"]:
    """A Python process that imports from ``path``; in the end it is killed with its children."""
    with open(log, "w") as output:
        started = subprocess.Popen(
            [sys.executable, "-m", *map(str, args)],
            cwd=path,
            env={**os.environ, "PYTHONPATH": str(path), **env},
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
        )
    try:
        yield started
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


class Scheduler:
    """A scheduler, and the workers that are started for it."""

    def __init__(self, stack: ExitStack, folder: Path, **env: str) -> None:
        self._stack, self._folder = stack, folder
        file = folder / "scheduler.json"
        args = (*LOCAL, "--port", 0, "--no-dashboard", "--scheduler-file", file)
        self.process = self._start("distributed.cli.dask_scheduler", *args, **env)
        until(file.exists)
        with Client(scheduler_file=str(file), set_as_default=False) as client:
            self.address = str(client.scheduler.address)

    def add(self, count: int, *options: object, path: Path = ROOT) -> None:
        """Start workers, and wait for them."""
        with Client(self.address, set_as_default=False) as client:
            before = len(client.nthreads())
            command = "distributed.cli.dask_worker", self.address, *LOCAL, *BARE
            place = "--local-directory", self._folder / "workers"
            self._start(*command, *place, "--nworkers", count, *options, path=path)
            until(lambda: len(client.nthreads()) == before + count)

    def _start(self, *args: object, **options: str | Path) -> "subprocess.Popen[str]":
        log = self._folder / f"{len(names(self._folder))}.log"
        return self._stack.enter_context(process(*args, log=log, **options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda **env: Scheduler(stack, tmp_path_factory.mktemp("dask"), **env)


@pytest.fixture(scope="module")
def scheduler(start: Start) -> Scheduler:
    """Two workers with two threads each; one that is killed comes back."""
    one = start()
    one.add(2, "--nthreads", 2, "--preload", "tests.cluster_faults")
    return one


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small checkpoints; the names say what befalls their workers."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("one", "two", "three", "four", "held", "late", "deadly")):
        save_file(state_dict(TINY, seed), folder / f"{name}.safetensors")
    (folder / "no.ckpt").write_bytes(b"no checkpoint")
    return folder


@pytest.fixture
def batch(van_gogh: Path, models: Path, tmp_path: Path) -> Batch:
    """Arguments of a batch over some of the models."""

    def arguments(scheduler: Scheduler, *inputs: str) -> list[object]:
        given = [van_gogh, *(models / name for name in inputs)]
        to = "--out", tmp_path / "out", "--name", "{stem}.safetensors"
        return ["batch", "--scheduler", scheduler.address, *to, *given]

    return arguments


def held(folder: Path) -> list[int]:
    """Processes that hold a file, half-written."""
    return [int(path.name[4:]) for path in folder.glob("pid-*")]


def debris(folder: Path) -> list[str]:
    """What is there beside outputs, manifests, the record and what a fault leaves."""
    meant = (".safetensors", ".manifest.json", ".manifest.jsonl", ".html", GO)
    return [n for n in names(folder) if not n.endswith(meant) and not n.startswith("pid-")]


def command(arguments: list[object], log: Path) -> AbstractContextManager["subprocess.Popen[str]"]:
    return process("erasepro_convert", *arguments, log=log)


def test_the_bytes_are_those_of_this_machine(
    scheduler: Scheduler, cli: Cli, batch: Batch, models: Path, van_gogh: Path, tmp_path: Path
) -> None:
    inputs = "one.safetensors", "two.safetensors", "three.safetensors", "four.safetensors"
    ran = cli(*batch(scheduler, *inputs, "no.ckpt"))
    assert (ran.code, ran.err) == (4, "error: 1 of 5 were refused\n")
    assert "[5/5]" in ran.out
    assert debris(tmp_path / "out") == []
    for name in inputs:
        assert cli("--quiet", van_gogh, models / name, tmp_path / name).code == 0
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / name).read_bytes()
    ran = cli(*batch(scheduler, *inputs, "no.ckpt"))
    assert ran.code == 4
    assert "(5 of them before)" in ran.out


def test_paths_are_those_of_where_it_was_begun(
    scheduler: Scheduler, cli: Cli, models: Path, van_gogh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(van_gogh.parent)
    shutil.copy(models / "one.safetensors", "in.safetensors")
    to = "--scheduler", scheduler.address, "--out", "out"
    assert cli("batch", *to, "recipe.yaml", "in.safetensors").code == 0
    assert Path("out/in-recipe.safetensors").exists()


def test_a_job_goes_on_elsewhere_when_its_worker_is_killed(
    scheduler: Scheduler, batch: Batch, cli: Cli, models: Path, van_gogh: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with command(batch(scheduler, "held.safetensors"), tmp_path / "log") as run:
        until(lambda: held(out))
        (pid,) = held(out)
        assert any(name.endswith(".part") for name in names(out))
        os.kill(pid, signal.SIGKILL)
        until(lambda: len(held(out)) == 2)  # the other one has it now
        (out / GO).touch()
        assert run.wait(DEADLINE) == 0, (tmp_path / "log").read_text()
    assert debris(out) == []
    entry = Ledger(out).get("held.safetensors")
    assert entry
    assert not entry.worker.endswith(f":{pid}")
    assert (
        cli("--quiet", van_gogh, models / "held.safetensors", tmp_path / "h.safetensors").code == 0
    )
    assert (out / "held.safetensors").read_bytes() == (tmp_path / "h.safetensors").read_bytes()


def test_what_was_finished_before_its_worker_died_is_done_anew(
    scheduler: Scheduler, batch: Batch, cli: Cli, tmp_path: Path
) -> None:
    ran = cli(*batch(scheduler, "late.safetensors"))
    assert ran.code == 0
    assert held(tmp_path / "out")
    assert debris(tmp_path / "out") == []


def test_a_job_that_kills_its_workers_is_given_up(
    start: Start, batch: Batch, cli: Cli, tmp_path: Path
) -> None:
    few = start(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="1")
    few.add(2, "--nthreads", 1, "--preload", "tests.cluster_faults")
    ran = cli(*batch(few, "deadly.safetensors", "one.safetensors", "two.safetensors"))
    assert ran.code == 1
    entries = Ledger(tmp_path / "out").latest
    assert {n: e.outcome for n, e in entries.items()} == {
        "deadly.safetensors": "failed",
        "one.safetensors": "done",
        "two.safetensors": "done",
    }
    reason = entries["deadly.safetensors"].reason
    assert reason == "its workers died, 2 of them: killed, or out of memory?"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_stops_what_is_at_work(
    number: int, scheduler: Scheduler, batch: Batch, cli: Cli, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = batch(scheduler, "one.safetensors", "held.safetensors", "two.safetensors")
    with command([*arguments, "--jobs", 1], tmp_path / "log") as run:
        until(lambda: held(out))
        run.send_signal(number)
        assert run.wait(DEADLINE) == 130
    assert not (out / FOLDER).exists()
    assert debris(out) == []
    assert set(Ledger(out).latest) == {"one.safetensors"}
    assert not (out / "held.safetensors").exists()
    (out / GO).touch()
    ran = cli(*arguments)
    assert ran.code == 0
    assert "3 done (1 of them before)" in ran.out


def test_what_a_killed_batch_had_at_work_is_stopped(
    scheduler: Scheduler, batch: Batch, cli: Cli, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = batch(scheduler, "held.safetensors")
    with command(arguments, tmp_path / "log") as run:
        until(lambda: held(out))
        run.kill()
        until(lambda: not any(name.endswith(".part") for name in names(out)))
    (out / GO).touch()
    assert cli(*arguments).code == 0
    assert debris(out) == []


def test_a_batch_ends_with_its_scheduler(
    start: Start, batch: Batch, scheduler: Scheduler, cli: Cli, tmp_path: Path
) -> None:
    out, doomed = tmp_path / "out", start()
    doomed.add(1, "--nthreads", 1, "--preload", "tests.cluster_faults")
    inputs = "one.safetensors", "held.safetensors", "two.safetensors"
    with command(batch(doomed, *inputs), tmp_path / "log") as run:
        until(lambda: held(out))
        doomed.process.kill()
        assert run.wait(DEADLINE) == 1
    assert "the scheduler is gone" in (tmp_path / "log").read_text()
    assert set(Ledger(out).latest) == {"one.safetensors"}
    assert "Traceback" not in (tmp_path / "log").read_text()
    until(lambda: not any(name.endswith(".part") for name in names(out)))
    (out / GO).touch()
    assert cli(*batch(scheduler, *inputs)).code == 0


def test_workers_that_would_write_other_bytes_are_refused(
    start: Start, batch: Batch, cli: Cli, tmp_path: Path
) -> None:
    other, older = tmp_path / "other", tmp_path / "older" / "erasepro_convert"
    left = shutil.ignore_patterns("*.safetensors", "__pycache__")
    shutil.copytree(ROOT / "erasepro_convert", other / "erasepro_convert", ignore=left)
    with open(other / "erasepro_convert" / "limits.py", "a") as file:
        file.write("# a change\n")
    older.mkdir(parents=True)
    (older / "__init__.py").touch()
    mixed = start()
    ran = cli(*batch(mixed, "one.safetensors"))
    assert (ran.code, ran.err) == (2, f"error: {mixed.address}: the scheduler has no workers\n")
    mixed.add(1, "--no-nanny")
    mixed.add(1, "--no-nanny", path=other)
    mixed.add(1, "--no-nanny", path=older.parent)
    ran = cli(*batch(mixed, "one.safetensors"))
    assert ran.code == 2
    first, *lines = ran.err.splitlines()
    assert first == "error: 2 of 3 workers are not fit:"
    assert sum("its files: " in line for line in lines) == 1
    assert sum("No module named 'erasepro_convert.batch'" in line for line in lines) == 1


def test_a_worker_that_comes_later_is_asked_as_well(
    scheduler: Scheduler,
    models: Path,
    van_gogh: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if another version ran here: the task brings what its worker must be like."""
    recipe = load_recipe(van_gogh)
    task = Task("x", recipe, models / "one.safetensors", tmp_path / "x.safetensors", Options())
    with connect(scheduler.address, tmp_path) as cluster:
        monkeypatch.setattr(
            clusters, "software_versions", lambda: software_versions() | {"torch": "0.1"}
        )
        result = cluster.submit(carry_out, task).result(DEADLINE)
    assert result.outcome == "failed"
    assert "torch: " in str(result.reason)
    assert "here 0.1" in str(result.reason)


def test_differences_are_named() -> None:
    ours = {"a": "1", "b": "2", "c": "3"}
    assert version_differences(ours, ours) == []
    assert version_differences({"a": "1", "b": "9"}, ours) == ["b: 9, here 2", "c: none, here 3"]


def test_the_table_shows_some_of_many(van_gogh: Path, models: Path) -> None:
    recipe = load_recipe(van_gogh)
    jobs = [Job(recipe, models / "one.safetensors", f"{n}.safetensors") for n in range(20)]
    tasks = [Task(j.output, recipe, j.source, Path(j.output), Options()) for j in jobs]
    view = BatchView(jobs, quiet=False)
    view.watch(lambda: [(task, Progress(0, 0, 0, 0, 0)) for task in tasks])
    console = Console(width=80, record=True, file=StringIO())
    console.print(view)
    lines = console.export_text().splitlines()
    assert lines[0].startswith("0/20 files")
    assert [line.split()[0] for line in lines[1:17]] == [job.output for job in jobs[:16]]
    assert lines[17].strip() == "and 4 more"


def test_the_output_folder_must_be_the_same_there(tmp_path: Path) -> None:
    assert clusters.inspect_worker(tmp_path) == (software_versions(), None)
    _, wrong = clusters.inspect_worker(tmp_path / "none" / "token")
    assert wrong == f"{tmp_path / 'none'} is not the same folder there"


def test_mistakes(
    batch: Batch, scheduler: Scheduler, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = cli(*batch(scheduler, "one.safetensors"), "--memory", "8G")
    assert ran.code == 2
    assert "--memory is of this machine" in ran.err
    monkeypatch.setattr(clusters, "CONNECT_TIMEOUT", 0.5)
    for address in ("tcp://127.0.0.1:1", "nonsense://127.0.0.1:1"):
        with pytest.raises(UsageError, match=f"^{address}: no scheduler"), connect(address, ROOT):
            pass


def test_the_extra_is_named_where_it_is_missing(
    batch: Batch, scheduler: Scheduler, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, clusters.__name__)
    monkeypatch.setitem(sys.modules, "distributed", None)
    ran = cli(*batch(scheduler, "one.safetensors"))
    assert ran.code == 2
    assert "pip install 'erasepro-convert[cluster]'" in ran.err
