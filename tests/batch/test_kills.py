"""A batch as a process of its own: killed, interrupted, and two at once."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from safetensors.torch import save_file

from erasepro_convert.batch.ledger import LEDGER
from erasepro_convert.cli import batch as command
from erasepro_convert.sd1.keys import Widths
from tests.conftest import VAN_GOGH, Cli
from tests.miniature import state_dict

pytestmark = pytest.mark.slow

TINY = Widths((32, 32, 32, 32), 64, 4, (32, 32, 32, 32), 48, 96)
FILES = 5
LONG = 120
"""Seconds in which anything here is over, or something hangs."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for number in range(FILES):
        save_file(state_dict(TINY, number), folder / f"{number}.safetensors")
    (folder / "van-gogh.yaml").write_text(VAN_GOGH)
    return folder


class Started:
    """A batch in a process group of its own."""

    def __init__(self, models: Path, out: Path, *more: str) -> None:
        recipe = str(models / "van-gogh.yaml")
        words = ["batch", recipe, str(models), "--out", str(out), *more]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "erasepro_convert", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def end(self) -> tuple[int, str]:
        """Its exit code and what it said, when it is over with all its workers."""
        said, _ = self.process.communicate(timeout=LONG)
        return self.process.returncode, said

    def has_workers(self) -> bool:
        """Whether any process of its group is alive."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def parts(out: Path) -> list[Path]:
    return [*out.rglob("*.part")]


def entries(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / LEDGER).read_text().splitlines()]


def count_lines(out: Path) -> int:
    """The entries whose line is complete; the batch may be writing the next one."""
    return (out / LEDGER).read_bytes().count(b"\n") if (out / LEDGER).exists() else 0


def require_whole(out: Path, cli: Cli) -> None:
    """Every output is there and as its manifest says, and there is nothing else."""
    names = {path.name for path in out.iterdir()}
    outputs = {f"{number}-van-gogh.safetensors" for number in range(FILES)}
    manifests = {name.replace(".safetensors", ".manifest.json") for name in outputs}
    assert names == {LEDGER, "batch.html"} | outputs | manifests
    for name in outputs:
        assert cli("verify", out / name).code == 0


def finish(models: Path, out: Path, cli: Cli) -> None:
    """Run the batch again, in this process, which has its imports done; all is whole then."""
    ran = cli("batch", models / "van-gogh.yaml", models, "--out", out, "--jobs", 1)
    assert ran.code == 0, ran.out
    require_whole(out, cli)


def test_killed_again_and_again_it_gets_there(models: Path, tmp_path: Path, cli: Cli) -> None:
    """Each kill -9 loses what is in flight, and nothing that was finished before.

    It strikes in turn a command that begins, one whose workers begin, and one that has recorded a
    result while a worker writes the next one.
    """
    random, out = Random(7), tmp_path / "out"
    finished = 0
    moments: list[Callable[[Started], object]] = [
        lambda started: True,
        lambda started: workers(started.process.pid),
        lambda _: count_lines(out) and parts(out),
    ]
    for is_moment in moments:
        started = Started(models, out, "--jobs", "2")
        wait_until(lambda: is_moment(started) or started.process.poll() is not None)  # noqa: B023  # called in this turn
        time.sleep(random.uniform(0, 0.2))
        started.process.kill()
        started.process.communicate(timeout=LONG)
        wait_until(lambda: not started.has_workers())  # noqa: B023  # called in this turn
        assert parts(out) == []  # the workers saw it and cleaned up
        before, finished = finished, len(entries(out)) if (out / LEDGER).exists() else 0
        assert finished >= before
    assert finished
    finish(models, out, cli)
    assert set(Counter(entry["output"] for entry in entries(out)).values()) == {1}


def test_all_of_it_killed_at_once(models: Path, tmp_path: Path, cli: Cli) -> None:
    """As by a power cut: nobody cleans up, the next batch does."""
    out = tmp_path / "out"
    started = Started(models, out, "--jobs", "2")
    wait_until(lambda: len(parts(out)) >= 2)
    os.killpg(started.process.pid, signal.SIGKILL)
    started.process.communicate(timeout=LONG)
    wait_until(lambda: not started.has_workers())
    assert parts(out)
    finish(models, out, cli)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_stops_the_workers_too(
    models: Path, tmp_path: Path, cli: Cli, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    started = Started(models, out, "--jobs", "2")
    wait_until(lambda: len(parts(out)) >= 2)
    if number == signal.SIGINT:
        os.killpg(started.process.pid, number)  # as a terminal does
    else:
        started.process.send_signal(number)
    code, said = started.end()
    assert code == 130, said
    assert "5 files: " in said
    assert "not begun" in said
    assert said.endswith("interrupted: run it again to do the rest\n")
    wait_until(lambda: not started.has_workers())
    assert {path.suffix for path in out.iterdir()} <= {".jsonl", ".html", ".safetensors", ".json"}
    finish(models, out, cli)


def test_a_killed_worker_is_replaced(models: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "out"
    started = Started(models, out, "--jobs", "1")
    wait_until(lambda: parts(out))
    (worker,) = workers(started.process.pid)
    os.kill(worker, signal.SIGKILL)
    code, said = started.end()
    assert code == 0, said
    require_whole(out, cli)


def workers(owner: int) -> list[int]:
    """Processes that the owner started to work, by their command line."""
    listed = subprocess.run(
        ["ps", "-ww", "--ppid", str(owner), "-o", "pid=,args="],
        capture_output=True,
        text=True,
        check=False,  # it fails where there are none
    ).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "spawn_main" in line]


def test_two_at_once_share_the_work(models: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "out"
    both = [Started(models, out, "--jobs", "1") for _ in range(2)]
    ends = [one.end() for one in both]
    assert [code for code, _ in ends] == [0, 0], ends
    require_whole(out, cli)
    done = Counter(entry["output"] for entry in entries(out))
    assert set(done.values()) == {1}
    assert len(done) == FILES
    for _, said in ends:
        assert f"{FILES} files: {FILES} done" in said


def test_never_more_temporary_files_than_jobs(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    started = Started(models, out, "--jobs", "2")
    most = 0
    while started.process.poll() is None:
        most = max(most, len([path for path in parts(out) if ".safetensors." in path.name]))
        time.sleep(0.01)
    assert started.end()[0] == 0
    assert 1 <= most <= 2


def test_what_it_says(models: Path, tmp_path: Path, cli: Cli) -> None:
    out, bad = tmp_path / "out", tmp_path / "bad.ckpt"
    bad.write_text("no checkpoint")
    listed = tmp_path / "list.txt"
    listed.write_text(f"{bad}\n\n{models / '0.safetensors'}\n")
    recipe = models / "van-gogh.yaml"
    ran = cli("batch", recipe, "--list", listed, "--out", out, "--jobs", 1)
    assert ran.code == 4
    lines = ran.out.splitlines()
    assert re.fullmatch(
        r"\[1/2\] refused   bad-van-gogh.safetensors  \d+\.\d s  bad.ckpt: it is .*", lines[0]
    )
    assert re.fullmatch(
        r"\[2/2\] done      0-van-gogh.safetensors  \d+\.\d s  "
        r"leak up to \d\.\d\d, drift up to \d\.\d\d",
        lines[1],
    )
    assert re.fullmatch(r"2 files: 1 done, 1 refused, in \d+ s", lines[2])
    assert lines[3] == f"records: {out / LEDGER}, {out / 'batch.html'}"
    assert ran.err == "error: 1 of 2 were refused\n"
    again = cli("batch", recipe, "--list", listed, "--out", out, "--jobs", 1)
    assert "1 done, 1 refused (2 of them before)" in again.out
    assert cli("batch", recipe, "--list", listed, "--out", out, "--quiet").out == ""
    printed = cli("batch", recipe, "--list", listed, "--out", out, "--quiet", "--json")
    assert [(e["output"], e["outcome"]) for e in json.loads(printed.out)] == [
        ("0-van-gogh.safetensors", "done"),
        ("bad-van-gogh.safetensors", "refused"),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to do"),
        (["x.ckpt"], "give recipes"),
        (["RECIPE"], "give recipes"),
        (["RECIPE", "*.nothing"], "no checkpoint"),
        (["RECIPE", "x.ckpt", "--name", "{nonsense}"], "{folder}, {stem}"),
        (["RECIPE", "x.ckpt", "--memory", "much"], "no size such as"),
        (["gone.yaml", "x.ckpt"], "gone.yaml"),
    ],
)
def test_wrong_usage(
    models: Path, tmp_path: Path, cli: Cli, words: list[str], message: str
) -> None:
    recipe = str(models / "van-gogh.yaml")
    words = [recipe if word == "RECIPE" else word for word in words]
    ran = cli("batch", *words, "--out", tmp_path / "out")
    assert ran.code == 2
    assert message in ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("at_once", "memory", "workers"),
    [(None, 8 << 30, 3), (2, 8 << 30, 2), (8, 4 << 30, 4), (8, 100, 1), (1, 0, 1)],
)
def test_memory_bounds_the_workers(
    monkeypatch: pytest.MonkeyPatch, at_once: int | None, memory: int, workers: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert command.worker_count(at_once, memory) == workers
    monkeypatch.setattr(command, "free_memory", lambda: memory)
    assert command.worker_count(at_once, None) <= workers


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8G", 8 << 30), ("512M", 512 << 20), ("1.5 GiB", 3 << 29), ("77", 77), ("2kB", 2048)],
)
def test_sizes(text: str, expected: int) -> None:
    assert command.size(text) == expected
