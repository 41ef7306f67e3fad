"""A batch from jobs to ledger, with an executor that works in this process."""

import errno
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from erasepro_convert import demo
from erasepro_convert.batch import readiness
from erasepro_convert.batch import scheduler as run
from erasepro_convert.batch.fingerprint import SAMPLE, SAMPLES
from erasepro_convert.batch.jobs import Job
from erasepro_convert.batch.ledger import Entry, Ledger
from erasepro_convert.batch.locks import FOLDER, Locks
from erasepro_convert.batch.scheduler import Batch
from erasepro_convert.batch.worker import Task
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.manifest import manifest_path, read_manifest
from erasepro_convert.output.destinations import Inputs
from erasepro_convert.recipe import Recipe, load_recipe
from erasepro_convert.sd1.keys import Widths
from erasepro_convert.storage.location import Location
from erasepro_convert.verification.verify import Request, compare
from tests.conftest import VAN_GOGH
from tests.miniature import state_dict

pytestmark = pytest.mark.slow

TINY = Widths((32, 32, 32, 32), 64, 4, (32, 32, 32, 32), 48, 96)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two small checkpoints of one size; do not change them."""
    folder = tmp_path_factory.mktemp("models")
    for seed in (1, 2):
        save_file(state_dict(TINY, seed), folder / f"{seed}.safetensors")
    return folder / "1.safetensors", folder / "2.safetensors"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    path = tmp_path_factory.mktemp("recipe") / "van-gogh.yaml"
    path.write_text(VAN_GOGH)
    return load_recipe(path)


class Here(Executor):
    """Does what it is given at once, unless told to die of it."""

    def __init__(self, deadly: Callable[[Task], bool] = lambda task: False) -> None:
        self.tasks: list[Task] = []
        self.opened = 0
        self._deadly = deadly
        self._broken = False

    def __call__(self) -> "Here":
        self.opened += 1
        self._broken = False
        return self

    def submit(self, function: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        (task,) = args
        self.tasks.append(task)
        if self._broken:
            raise BrokenExecutor("a worker died")
        future: Future[Any] = Future()
        if self._deadly(task):
            self._broken = True
            future.set_exception(BrokenExecutor("a worker died"))
        else:
            future.set_result(function(task))
        return future

    @property
    def outputs(self) -> list[str]:
        return [task.output for task in self.tasks]


@dataclass
class Seen:
    """What a viewer is told."""

    ends: list[tuple[Entry, bool]] = field(default_factory=list)

    def began(self, job: Job) -> None:
        pass

    def ended(self, job: Job, entry: Entry, *, already_done: bool) -> None:
        assert job.output == entry.output
        self.ends.append((entry, already_done))

    @property
    def outcomes(self) -> dict[str, str]:
        return {entry.output: entry.outcome for entry, _ in self.ends}

    @property
    def before(self) -> list[str]:
        return [entry.output for entry, before in self.ends if before]


@dataclass(frozen=True)
class Ran:
    """What came of a batch."""

    seen: Seen
    executor: Here
    ledger: Ledger
    full: bool

    def __getitem__(self, output: str) -> Entry:
        entry = self.ledger.get(output)
        assert entry
        return entry


Go = Callable[..., Ran]


@pytest.fixture
def go(tmp_path: Path) -> Go:
    """Run a batch into a folder ``out``."""
    folder = tmp_path / "out"
    folder.mkdir()

    def start(
        jobs: Sequence[Job],
        options: Options | None = None,
        executor: Here | None = None,
        at_once: int = 1,
        marks: int = 0,
    ) -> Ran:
        seen, ledger, executor = Seen(), Ledger(folder), executor or Here()
        options = options or Options()
        inputs = Inputs([*(job.source for job in jobs), *options.read])
        batch = Batch(jobs, folder, ledger, options, inputs, seen)
        batch.run(executor, at_once)
        assert not list(folder.rglob("*.part"))
        assert len(list(folder.glob(f"{FOLDER}/*"))) == marks
        return Ran(seen, executor, ledger, batch.disk_full)

    return start


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def jobs(tmp_path: Path, models: tuple[Path, Path], recipe: Recipe) -> list[Job]:
    """Two jobs on files that a test may change."""
    made = []
    for model in models:
        source = tmp_path / model.name
        os.link(model, source)
        made.append(Job(recipe, source, f"x/{model.name}"))
    return made


def other_bytes(path: Location) -> None:
    """Change one byte between two samples of a file."""
    assert isinstance(path, Path)
    content = bytearray(path.read_bytes())
    assert SAMPLES == 16
    place = (len(content) - SAMPLE) // 30 * 21
    assert len(content) // 15 > 3 * SAMPLE
    content[place] ^= 1
    path.unlink()  # it may be a link
    path.write_bytes(content)


class TestOutcomes:
    def test_one_failure_does_not_stop_the_others(
        self, go: Go, jobs: list[Job], out: Path, tmp_path: Path, recipe: Recipe
    ) -> None:
        (tmp_path / "bad.ckpt").write_text("no checkpoint")
        (out / "mine.safetensors").write_text("somebody's")
        strict = recipe.changed(limits={"leak": 1e-9})
        jobs = [
            Job(recipe, tmp_path / "bad.ckpt", "bad.safetensors"),
            Job(recipe, tmp_path / "gone.ckpt", "gone.safetensors"),
            Job(strict, jobs[0].source, "strict.safetensors"),
            Job(recipe, jobs[0].source, "mine.safetensors"),
            *jobs,
        ]
        ran = go(jobs)
        assert ran.seen.outcomes == {
            "bad.safetensors": "refused",
            "gone.safetensors": "failed",
            "strict.safetensors": "exceeded",
            "mine.safetensors": "failed",
            "x/1.safetensors": "done",
            "x/2.safetensors": "done",
        }
        assert "neither a safetensors file" in str(ran["bad.safetensors"].reason)
        assert "there is no such file" in str(ran["gone.safetensors"].reason)
        assert "leak" in str(ran["strict.safetensors"].reason)
        assert "exists already; --force" in str(ran["mine.safetensors"].reason)
        assert (out / "mine.safetensors").read_text() == "somebody's"
        assert not (out / "strict.safetensors").exists()

    def test_an_entry_says_what_the_manifest_says(self, go: Go, jobs: list[Job], out: Path) -> None:
        done = go(jobs)["x/1.safetensors"]
        manifest = read_manifest(out / "x/1.manifest.json")
        assert done.written
        assert done.figures
        assert done.written.manifest_sha256 == manifest.manifest_sha256
        assert done.written.sha256 == (manifest.output.files[0].sha256,)
        assert done.input.sha256 == (manifest.input.files[0].sha256,)
        assert done.input.size == jobs[0].source.stat().st_size
        assert done.recipe_sha256 == manifest.recipe_sha256
        assert done.figures.leak == max(measure.worst for measure in manifest.probe.leak)
        assert done.figures.drift == max(measure.worst for measure in manifest.probe.drift)

    def test_a_mistake_of_ours_is_one_failure(
        self, go: Go, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def sometimes(recipe: Recipe, source: Path, *rest: Any) -> Any:
            return 1 / 0 if source.stem == "1" else convert(recipe, source, *rest)

        monkeypatch.setattr("erasepro_convert.batch.worker.convert", sometimes)
        ran = go(jobs)
        assert ran.seen.outcomes == {"x/1.safetensors": "failed", "x/2.safetensors": "done"}
        assert str(ran["x/1.safetensors"].reason).startswith("ZeroDivisionError: division by zero")

    def test_a_folder_as_output(self, go: Go, out: Path, recipe: Recipe) -> None:
        with demo.checkpoint() as file:  # configurations are known of real widths only
            job = Job(recipe, file, "folder/")
            assert go([job]).seen.outcomes == {"folder/": "done"}
            assert (out / "folder/unet/diffusion_pytorch_model.safetensors").exists()
            assert go([job]).seen.before == ["folder/"]
            other = Job(recipe.changed(name="other"), file, "folder/")
            (out / "folder/mine.txt").touch()
            failed = go([other])["folder/"]
            assert failed.outcome == "failed"
            assert "a folder is not replaced" in str(failed.reason)
            (out / "folder/mine.txt").unlink()
            assert go([other]).seen.outcomes == {"folder/": "done"}


class TestAgain:
    def test_nothing_is_done_twice(self, go: Go, jobs: list[Job], out: Path) -> None:
        assert go(jobs).seen.before == []
        inodes = [path.stat().st_ino for path in sorted(out.rglob("*.*"))]
        again = go(jobs)
        assert again.executor.tasks == []
        assert again.seen.before == ["x/1.safetensors", "x/2.safetensors"]
        assert [path.stat().st_ino for path in sorted(out.rglob("*.*"))] == inodes

    def test_what_was_refused_stays_so(self, go: Go, tmp_path: Path, recipe: Recipe) -> None:
        (tmp_path / "bad.ckpt").write_text("no checkpoint")
        job = Job(recipe, tmp_path / "bad.ckpt", "bad.safetensors")
        go([job])
        again = go([job])
        assert again.executor.tasks == []
        assert again.seen.outcomes == {"bad.safetensors": "refused"}

    def test_what_failed_is_done(
        self, go: Go, jobs: list[Job], tmp_path: Path, recipe: Recipe
    ) -> None:
        late = Job(recipe, tmp_path / "late.safetensors", "late.safetensors")
        assert go([*jobs, late]).seen.outcomes["late.safetensors"] == "failed"
        late.source.write_bytes(jobs[0].source.read_bytes())
        other_bytes(late.source)
        again = go([*jobs, late])
        assert again.executor.outputs == ["late.safetensors"]
        assert again.seen.outcomes["late.safetensors"] == "done"

    @pytest.mark.parametrize("gone", ["x/1.safetensors", "x/1.manifest.json"])
    def test_what_is_gone_is_done(self, go: Go, jobs: list[Job], out: Path, gone: str) -> None:
        go(jobs)
        (out / gone).unlink()
        again = go(jobs)
        assert again.executor.outputs == ["x/1.safetensors"]
        assert (out / gone).exists()
        assert go(jobs).executor.tasks == []

    def test_an_input_that_was_only_touched_is_read_but_not_converted(
        self, go: Go, jobs: list[Job], out: Path
    ) -> None:
        go(jobs)
        inode = (out / "x/1.safetensors").stat().st_ino
        content = jobs[0].source.read_bytes()
        jobs[0].source.unlink()
        jobs[0].source.write_bytes(content)
        again = go(jobs)
        assert again.executor.outputs == ["x/1.safetensors"]
        assert again.seen.before == ["x/1.safetensors", "x/2.safetensors"]
        assert (out / "x/1.safetensors").stat().st_ino == inode
        assert go(jobs).executor.tasks == []

    def test_an_input_with_one_other_byte_is_converted(
        self, go: Go, jobs: list[Job], out: Path
    ) -> None:
        before = go(jobs)["x/1.safetensors"]
        other_bytes(jobs[0].source)
        again = go(jobs)
        after = again["x/1.safetensors"]
        assert again.executor.outputs == ["x/1.safetensors"]
        assert before.input.fingerprint == after.input.fingerprint
        assert before.input.sha256 != after.input.sha256
        assert before.written != after.written
        assert [*verify_all(out)] == []

    def test_another_recipe_options_or_version(
        self, go: Go, jobs: list[Job], recipe: Recipe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        go(jobs)
        other = recipe.changed(layers={"text_encoder": "1", "unet": "none"})
        jobs = [Job(other, jobs[0].source, jobs[0].output), jobs[1]]
        assert go(jobs).executor.outputs == ["x/1.safetensors"]
        assert len(go(jobs, Options(dtype="fp16")).executor.outputs) == 2
        assert len(go(jobs, Options(dtype="fp16")).executor.outputs) == 0
        for module in (run, readiness):
            monkeypatch.setattr(module, "__version__", "99")
        assert len(go(jobs, Options(dtype="fp16")).executor.outputs) == 2

    def test_a_foreign_output_is_never_ours(self, go: Go, jobs: list[Job], out: Path) -> None:
        (out / "x").mkdir()
        (out / "x/1.safetensors").write_text("somebody's")
        for _ in range(2):
            assert go(jobs).seen.outcomes["x/1.safetensors"] == "failed"
        assert (out / "x/1.safetensors").read_text() == "somebody's"
        assert go(jobs, Options(force=True)).seen.outcomes["x/1.safetensors"] == "done"

    def test_an_output_of_another_input_is_pointed_out(
        self, go: Go, jobs: list[Job], out: Path
    ) -> None:
        go(jobs)
        jobs[0].source.unlink()
        jobs[0].source.write_text("no checkpoint")
        refused = go(jobs)["x/1.safetensors"]
        assert refused.outcome == "refused"
        assert str(refused.reason).endswith(run.STALE_OUTPUT)
        assert (out / "x/1.safetensors").exists()


class TestTwins:
    @pytest.fixture
    def twins(self, tmp_path: Path, jobs: list[Job], recipe: Recipe) -> list[Job]:
        (tmp_path / "twin.safetensors").write_bytes(jobs[0].source.read_bytes())
        return [*jobs, Job(recipe, tmp_path / "twin.safetensors", "y/twin.safetensors")]

    def test_identical_inputs_are_converted_once(self, go: Go, twins: list[Job], out: Path) -> None:
        ran = go(twins, at_once=2)
        linked = ran["y/twin.safetensors"]
        assert linked.outcome == "linked"
        assert linked.same_as == "x/1.safetensors"
        assert linked.figures == ran["x/1.safetensors"].figures
        one, two = out / "x/1.safetensors", out / "y/twin.safetensors"
        assert one.samefile(two)
        assert [*verify_all(out)] == []
        manifest = read_manifest(manifest_path(two))
        assert manifest.input.name == manifest.input.files[0].name == "twin.safetensors"
        assert manifest.output.name == manifest.output.files[0].name == "twin.safetensors"
        assert go(twins).executor.tasks == []

    def test_also_with_those_of_an_earlier_batch(self, go: Go, twins: list[Job]) -> None:
        go(twins[:2])
        assert go(twins)["y/twin.safetensors"].outcome == "linked"

    def test_copied_where_there_are_no_links(
        self, go: Go, twins: list[Job], out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_link(*_: object) -> None:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

        monkeypatch.setattr(os, "link", no_link)
        assert go(twins)["y/twin.safetensors"].outcome == "linked"
        one, two = out / "x/1.safetensors", out / "y/twin.safetensors"
        assert not one.samefile(two)
        assert one.read_bytes() == two.read_bytes()
        assert [*verify_all(out)] == []

    def test_what_only_looks_the_same_is_converted(
        self, go: Go, twins: list[Job], out: Path
    ) -> None:
        other_bytes(twins[2].source)
        ran = go(twins)
        one, two = ran["x/1.safetensors"], ran["y/twin.safetensors"]
        assert one.input.fingerprint == two.input.fingerprint
        assert two.outcome == "done"
        assert [*verify_all(out)] == []

    def test_another_recipe_is_another_matter(
        self, go: Go, twins: list[Job], recipe: Recipe
    ) -> None:
        other = recipe.changed(name="another")
        twins[2] = Job(other, twins[2].source, twins[2].output)
        assert set(go(twins).seen.outcomes.values()) == {"done"}

    def test_an_original_that_is_gone_or_has_changed_is_not_linked(
        self, go: Go, twins: list[Job], out: Path
    ) -> None:
        go(twins[:2])
        (out / "x/1.safetensors").unlink()
        assert go(twins[2:])["y/twin.safetensors"].outcome == "done"

    def test_an_original_that_somebody_made_anew_is_not_linked(
        self, go: Go, twins: list[Job], out: Path, recipe: Recipe
    ) -> None:
        go(twins[:2])
        other = recipe.changed(name="other")
        options = Options(force=True)
        convert(other, twins[0].source, out / "x/1.safetensors", options, lambda *_: None)
        assert go(twins[2:])["y/twin.safetensors"].outcome == "done"
        assert [*verify_all(out)] == []


class TestTrouble:
    def test_no_room_ends_it_and_keeps_what_is_done(
        self,
        go: Go,
        jobs: list[Job],
        recipe: Recipe,
        out: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def sometimes(recipe: Recipe, source: Path, *rest: Any) -> Any:
            if source.stem == "2":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return convert(recipe, source, *rest)

        monkeypatch.setattr("erasepro_convert.batch.worker.convert", sometimes)
        third = Job(recipe.changed(name="third"), jobs[0].source, "third.safetensors")
        ran = go([*jobs, third])
        assert not ran.full, "there is room here: something else is full"
        assert ran["third.safetensors"].outcome == "done"
        (out / "third.safetensors").unlink()
        usage = shutil.disk_usage(out)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        ran = go([*jobs, third])
        assert ran.full
        assert ran.seen.outcomes == {"x/1.safetensors": "done", "x/2.safetensors": "failed"}
        monkeypatch.undo()
        again = go([*jobs, third])
        assert not again.full
        assert again.executor.outputs == ["x/2.safetensors", "third.safetensors"]

    def test_no_room_for_the_record(
        self, tmp_path: Path, out: Path, go: Go, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out.mkdir(exist_ok=True)
        ledger, seen = Ledger(out), Seen()
        with monkeypatch.context() as patch:

            def no_room(entry: Entry) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            patch.setattr(ledger, "append", no_room)
            batch = Batch(jobs, out, ledger, Options(), Inputs([]), seen)
            batch.run(Here(), 1)
        assert batch.disk_full
        assert seen.outcomes == {"x/1.safetensors": "done"}
        ran = go(jobs)  # the output is known to be ours, though no line says so
        assert ran.seen.outcomes == {"x/1.safetensors": "done", "x/2.safetensors": "done"}

    def test_no_room_for_a_claim(
        self, go: Go, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_room(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Locks, "acquire", no_room)
        ran = go(jobs)
        assert ran.full
        assert ran.seen.ends == []

    def test_an_interrupt_between_claim_and_worker_leaves_no_claim(
        self, out: Path, jobs: list[Job], go: Go
    ) -> None:
        class Interrupted(Here):
            def submit(self, function: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            go(jobs, executor=Interrupted())
        assert not (out / FOLDER).exists()

    def test_who_takes_workers_along_is_given_up_and_the_others_are_not(
        self, go: Go, jobs: list[Job], recipe: Recipe
    ) -> None:
        third = Job(recipe, jobs[1].source, "third.safetensors")
        deadly = Here(lambda task: task.output == "x/2.safetensors")
        ran = go([*jobs, third], executor=deadly, at_once=3, marks=1)
        assert ran.seen.outcomes == {
            "x/1.safetensors": "done",
            "x/2.safetensors": "failed",
            "third.safetensors": "done",
        }
        assert "its worker died twice" in str(ran["x/2.safetensors"].reason)
        assert Counter(deadly.outputs)["x/2.safetensors"] == run.MAX_WORKER_DEATHS

    def test_a_worker_that_dies_once_is_no_matter(self, go: Go, jobs: list[Job]) -> None:
        deaths = iter([True])
        deadly = Here(lambda task: task.output == "x/2.safetensors" and next(deaths, False))
        assert set(go(jobs, executor=deadly, at_once=2).seen.outcomes.values()) == {"done"}
        assert deadly.opened == 2


def verify_all(folder: Path) -> Iterator[object]:
    """What deviates from its manifest."""
    for path in sorted(folder.rglob("*.safetensors")):
        manifest = read_manifest(manifest_path(path))
        yield from compare(manifest, Request(path), lambda stage, done, total: None).findings
