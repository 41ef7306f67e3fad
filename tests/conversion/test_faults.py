"""Whatever strikes a run, there is the whole old output or the whole new one, and no debris.

Faults are the kernel's own where it gives them (kill -9, a full tmpfs, /dev/full, a read-only
folder); elsewhere one call of the operating system is made to fail.
"""

import errno
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, BinaryIO, cast

import pytest
import torch
from safetensors.torch import save_file

from erasepro_convert import demo
from erasepro_convert.cli import main
from erasepro_convert.conversion import convert as conversion
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.manifest import Manifest, manifest_path, read_manifest
from erasepro_convert.output import staging
from erasepro_convert.recipe import Recipe, load_recipe
from erasepro_convert.runtime import scratch
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.sd1.keys import Widths
from erasepro_convert.storage import atomic
from erasepro_convert.storage.atomic import replacing, replacing_folder
from erasepro_convert.storage.location import Location
from tests.conftest import VAN_GOGH, Cli, sha256
from tests.fork_server import CANNOT, ROOT, ForkServer, fork, wait
from tests.miniature import state_dict

pytestmark = pytest.mark.slow

TINY = Widths((32, 32, 32, 32), 64, 4, (32, 32, 32, 32), 48, 96)
OTHER = VAN_GOGH.replace("anchor: artist", "anchor: person")
KILLS, FOLDER_KILLS = 32, 8
NOBODY = 65534

Job = Callable[[Progress], object]


@dataclass(frozen=True)
class Inputs:
    """A small checkpoint and two recipes with different results, in a folder of their own."""

    source: Path
    recipe: Path
    other: Path


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("inputs")
    made = Inputs(folder / "in.safetensors", folder / "recipe.yaml", folder / "other.yaml")
    save_file(state_dict(TINY), made.source)
    made.recipe.write_text(VAN_GOGH)
    made.other.write_text(OTHER)
    return made


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """An output of before, with its manifest."""
    target = tmp_path / "out.safetensors"
    target.write_bytes(b"old")
    manifest_path(target).write_bytes(b"old manifest")
    return target


def assert_untouched(old: Path) -> None:
    assert old.read_bytes() == b"old"
    assert manifest_path(old).read_bytes() == b"old manifest"
    assert names(old.parent) == ["out.manifest.json", "out.safetensors"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def silent(*_: object) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    """For functions that fork or give up rights."""
    with ForkServer() as started:
        yield started


@pytest.fixture(scope="module")
def mounting_server() -> Iterator[ForkServer]:
    """For functions that mount file systems, which go with the server."""
    tool = shutil.which("unshare")
    prefix = [str(tool), "--user", "--map-root-user", "--mount"]
    if tool is None or subprocess.run([*prefix, "true"], check=False).returncode:
        pytest.skip("no user namespace in which to mount a small file system")
    with ForkServer(prefix) as started:
        yield started


# kill -9 --------------------------------------------------------------------------------------


def start(job: Job) -> tuple[int, BinaryIO]:
    """Fork a job; the pipe gives a byte as soon as it writes."""
    reader, sender = os.pipe()

    def report(stage: str, done: int, total: int) -> None:
        if stage == "write":
            os.write(sender, b"w")

    child = fork(lambda: job(report))
    os.close(sender)
    return child, open(reader, "rb", buffering=0)


@dataclass
class Killer:
    """Kills jobs at moments spread evenly over a run, and as many over its writing.

    ``spans`` are the seconds that both take, ``left`` the parts of them in which no job has been
    killed yet, of ``parts`` equal ones.  A kill strikes anywhere in its part.
    """

    spans: list[float]
    parts: int
    left: list[list[int]]
    random: Random
    rounds: int = 0
    kills: int = 0

    @classmethod
    def measured(cls, job: Job, kills: int) -> "Killer":
        begun = time.monotonic()
        child, pipe = start(job)
        with pipe:
            assert pipe.read(1) == b"w"
            writes = time.monotonic()
            assert wait(child) == 0
        ended = time.monotonic()
        random, parts = Random(0), kills // 2
        left = [random.sample(range(parts), parts) for _ in range(2)]
        return cls([ended - begun, ended - writes], parts, left, random)

    def strike(self, job: Job) -> None:
        """Fork the job and kill it, unless it is done before."""
        self.rounds += 1
        child, pipe = start(job)
        with pipe:
            in_writing = len(self.left[1]) >= len(self.left[0])
            if in_writing:
                pipe.read(1)
            part = self.left[in_writing].pop()
            share = (part + self.random.random()) / self.parts
            time.sleep(share * self.spans[in_writing])
            os.kill(child, signal.SIGKILL)
        code = wait(child)
        assert code in (0, -signal.SIGKILL), code
        self.kills += code != 0
        if not code:
            self.left[in_writing].insert(0, part)
        # Runs take longer or shorter as the machine is loaded: keep to four hits in five.
        self.spans[in_writing] *= 1.05 if code else 0.8


def debris(folder: Path) -> list[Path]:
    return list(folder.glob(".*.part"))


def kill_file_runs(source: str, first: str, second: str, out: str) -> None:
    """Two recipes in turn onto one target, so that the old file differs from the new one."""
    torch.set_num_threads(1)
    target = Path(out)
    options = Options(force=True)
    jobs = [
        partial(convert, load_recipe(Path(recipe)), Path(source), target, options)
        for recipe in (first, second)
    ]
    good = []
    for job in jobs:
        job(silent)
        good.append(sha256(target))
    assert good[0] != good[1]
    killer, struck_in_writing = Killer.measured(jobs[0], KILLS), 0
    while killer.kills < KILLS:
        assert killer.rounds < 10 * KILLS
        killer.strike(jobs[killer.rounds % 2])
        assert sha256(target) in good, f"round {killer.rounds}: neither old nor new"
        recorded = read_manifest(manifest_path(target)).output.files[0].sha256
        assert recorded in good
        struck_in_writing += bool(debris(target.parent))
    assert struck_in_writing, "no kill hit a run that wrote: nothing was shown"
    jobs[0](silent)
    assert sha256(target) == good[0]
    assert read_manifest(manifest_path(target)).output.files[0].sha256 == good[0]
    assert names(target.parent) == sorted([target.name, manifest_path(target).name])
    print(f"{killer.kills} kills in {killer.rounds} runs, {struck_in_writing} left a .part")


def test_kills_leave_the_old_or_the_new_file(
    inputs: Inputs, server: ForkServer, tmp_path: Path
) -> None:
    target = tmp_path / "out.safetensors"
    ran = server.call(kill_file_runs, inputs.source, inputs.recipe, inputs.other, target)
    assert ran.returncode == 0, ran.stderr
    print(ran.stdout)


def digests(folder: Path) -> dict[str, str]:
    """Of every file in it but the manifest, which holds the time."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): sha256(path)
        for path in files
        if path.name != "manifest.json"
    }


def kill_folder_runs(recipe: str, out: str) -> None:
    """A folder is never replaced, so what must not be seen is a part of one."""
    torch.set_num_threads(1)
    target = Path(out)
    with demo.checkpoint() as source:
        job = partial(convert, load_recipe(Path(recipe)), source, target, Options(folder=True))
        job(silent)
        good = digests(target)
        shutil.rmtree(target)
        killer, struck_in_writing = Killer.measured(job, FOLDER_KILLS), 0
        shutil.rmtree(target)
        while killer.kills < FOLDER_KILLS:
            assert killer.rounds < 10 * FOLDER_KILLS
            killer.strike(job)
            struck_in_writing += bool(debris(target.parent))
            if target.exists():
                assert digests(target) == good, f"round {killer.rounds}: a part of a folder"
                read_manifest(target / "manifest.json")
                shutil.rmtree(target)
        assert struck_in_writing, "no kill hit a run that wrote: nothing was shown"
        job(silent)
    assert digests(target) == good
    assert names(target.parent) == [target.name]
    print(f"{killer.kills} kills in {killer.rounds} runs, {struck_in_writing} left a .part")


def test_kills_leave_a_whole_folder_or_none(
    inputs: Inputs, server: ForkServer, tmp_path: Path
) -> None:
    ran = server.call(kill_folder_runs, inputs.recipe, tmp_path / "out")
    assert ran.returncode == 0, ran.stderr
    print(ran.stdout)


# signals --------------------------------------------------------------------------------------

STAGES = ("erase", "probe", "hash", "write")


def raise_in_stage(number: signal.Signals, stage: str, args: list[str]) -> None:
    """The command line, struck in the middle of a stage."""
    original = conversion.convert

    def struck(
        recipe: Recipe,
        source: Location,
        target: Location,
        options: Options,
        progress: Progress,
    ) -> Manifest:
        def report(now: str, done: int, total: int) -> None:
            progress(now, done, total)
            if now == stage and 2 * done >= total:
                signal.raise_signal(number)

        return original(recipe, source, target, options, report)

    conversion.convert = struck  # type: ignore[assignment]  # as the command line calls it
    main(args)


def raise_in_sync(number: signal.Signals, args: list[str]) -> None:
    """The command line, struck while the disk is waited for."""
    original = os.fsync

    def struck(descriptor: int) -> None:
        signal.raise_signal(number)
        original(descriptor)

    os.fsync = struck  # type: ignore[assignment]  # one argument is all that is used
    main(args)


def signal_runs(recipe: str, source: str, out: str) -> None:
    """Every signal in every stage; each must exit with 130 and leave the old output alone."""
    torch.set_num_threads(1)
    target = Path(out)
    with demo.checkpoint() as model:
        to_file = ["--force", recipe, source, out]
        to_folder = [recipe, str(model), str(target.with_name("folder")) + "/"]
        for args in (to_file, to_folder):
            main(["--dry-run", "--quiet", *args])  # the imports, once for all children
            for number in (signal.SIGINT, signal.SIGTERM):
                strikes = {stage: partial(raise_in_stage, number, stage, args) for stage in STAGES}
                strikes["sync"] = partial(raise_in_sync, number, args)
                for stage, strike in strikes.items():
                    where = f"{number.name} in {stage} of {args[-1]}"
                    assert wait(fork(strike)) == 130, where
                    assert_untouched(target)


def test_signals_in_every_stage_exit_with_130(
    inputs: Inputs, server: ForkServer, old: Path
) -> None:
    ran = server.call(signal_runs, inputs.recipe, inputs.source, old)
    assert ran.returncode == 0, ran.stderr
    # click ends the line on which a terminal shows ^C, hence empty ones
    assert set(ran.stderr.splitlines()) - {""} == {"interrupted: nothing was written"}
    assert ran.stdout == ""


# a full disk ----------------------------------------------------------------------------------


def open_full(
    name: str, opened: Callable[..., BinaryIO] = open
) -> Callable[[Path | str, str], BinaryIO]:
    """``open``, but what is written to a file with ``name`` in its path meets a full device."""

    def opens(path: Path | str, mode: str) -> BinaryIO:
        file = opened(path, mode)
        if name in str(path):
            device = os.open("/dev/full", os.O_WRONLY)
            os.dup2(device, file.fileno())
            os.close(device)
        return file

    return opens


@pytest.mark.parametrize("name", [".out.safetensors", ".out.manifest.json"])
def test_a_full_device_leaves_the_old_output(
    name: str, cli: Cli, inputs: Inputs, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "open", open_full(name), raising=False)
    ran = cli("--force", inputs.recipe, inputs.source, old)
    assert (ran.code, ran.err) == (1, "error: the disk is full\n")
    assert_untouched(old)


@pytest.mark.parametrize("name", ["unet/diffusion", "unet/config.json", "manifest.json"])
def test_a_full_device_leaves_no_folder(
    name: str, cli: Cli, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "open", open_full(name), raising=False)
    with demo.checkpoint() as source:
        ran = cli(inputs.recipe, source, f"{tmp_path}/out/")
    assert (ran.code, ran.err) == (1, "error: the disk is full\n")
    assert names(tmp_path) == []


def run_in_tmpfs(mount: str, pages: str, recipe: str, source: str) -> None:
    """Convert into a tmpfs of so many pages; print how it ended, for nobody else sees it."""
    folder = Path(mount)
    options = f"size={int(pages) * os.sysconf('SC_PAGE_SIZE')},huge=never"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", mount],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        print(mounted.stderr, file=sys.stderr)
        sys.exit(CANNOT)
    target = folder / "out.safetensors"
    target.touch()  # empty, so that its replacement gives back no page
    manifest_path(target).write_bytes(b"old manifest")
    code: object = 0
    try:
        main(["--force", "--quiet", recipe, source, str(target)])
    except SystemExit as stop:
        code = stop.code
    files = {path.name: sha256(path) for path in folder.iterdir()}
    print(json.dumps({"code": code, "files": files}))


@pytest.mark.parametrize("short_of", ["target", "manifest", "nothing"])
def test_a_full_file_system_leaves_the_old_output(
    short_of: str, inputs: Inputs, mounting_server: ForkServer, tmp_path: Path
) -> None:
    """A real one: the target does not fit, or the last page of the manifest does not."""
    model = tmp_path / "out.safetensors"
    convert(load_recipe(inputs.recipe), inputs.source, model, Options(), silent)
    size, page = model.stat().st_size, os.sysconf("SC_PAGE_SIZE")
    record = manifest_path(model).stat().st_size
    full = -(-size // page) + -(-record // page) + 1  # the old manifest takes one
    pages = {"target": size // page // 2, "manifest": full - 1, "nothing": full + 1}[short_of]
    mount = tmp_path / "mount"
    mount.mkdir()
    ran = mounting_server.call(run_in_tmpfs, mount, pages, inputs.recipe, inputs.source)
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    if short_of == "nothing":  # then it is really the size that matters
        assert (result["code"], result["files"]["out.safetensors"]) == (0, sha256(model))
        assert len(result["files"]) == 2
        return
    assert result == {
        "code": 1,
        "files": {
            "out.safetensors": hashlib.sha256(b"").hexdigest(),
            "out.manifest.json": hashlib.sha256(b"old manifest").hexdigest(),
        },
    }
    assert ran.stderr == "error: the disk is full\n"


def run_with_full_temporary_folder(mount: str, recipe: str, source: str, out: str) -> None:
    """Convert with hardly a page left in TMPDIR, and with every matrix in a temporary file."""
    command = ["mount", "-t", "tmpfs", "-o", "size=16k,huge=never", "tmpfs", mount]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode:
        print(mounted.stderr, file=sys.stderr)
        sys.exit(CANNOT)
    with tempfile.TemporaryDirectory() as cache:  # so that there is something to compute
        os.environ["XDG_CACHE_HOME"] = cache
        tempfile.tempdir = mount
        scratch.FILE_THRESHOLD = 0
        main(["--quiet", recipe, source, out])


def test_a_full_folder_for_temporary_files_is_named(
    inputs: Inputs, mounting_server: ForkServer, tmp_path: Path
) -> None:
    """Who writes to a mapped hole there is killed by the kernel (SIGBUS)."""
    mount, target = tmp_path / "mount", tmp_path / "out.safetensors"
    mount.mkdir()
    words = (mount, inputs.recipe, inputs.source, target)
    ran = mounting_server.call(run_with_full_temporary_folder, *words)
    assert ran.returncode == 1, ran.stderr
    assert ran.stderr == (
        f"error: {mount}: No space left on device; TMPDIR can name another folder for temporary "
        "files, on a disk with more room\n"
    )
    assert names(tmp_path) == ["mount"]


def lack_fallocate(*_: object) -> None:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


@pytest.mark.parametrize("fallocate", [lack_fallocate, None])
def test_room_has_its_blocks_where_none_can_be_reserved(
    fallocate: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system without posix_fallocate, and on a system without it."""
    if fallocate:
        monkeypatch.setattr(os, "posix_fallocate", fallocate)
    else:
        monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scratch, "FILE_THRESHOLD", 0)
    seen = []

    def mapped(name: str, **asked: Any) -> torch.Tensor:
        seen.append((os.stat(name).st_size, os.stat(name).st_blocks * 512))
        return from_file(name, **asked)

    from_file = torch.from_file
    monkeypatch.setattr(torch, "from_file", mapped)
    matrix = scratch.scratch_matrix(300_001, 3, torch.float32)
    ((size, allocated),) = seen
    assert size == matrix.nbytes
    assert allocated >= size
    assert names(tmp_path) == []
    matrix.fill_(1)
    assert float(matrix.sum()) == 900_003


# failing calls --------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0, 0.3, 0.6, 0.9])
def test_a_read_error_leaves_the_old_output(
    share: float, cli: Cli, inputs: Inputs, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a share of the input's bytes, of which every one is read."""
    original, left = os.preadv, share * inputs.source.stat().st_size

    def failing(descriptor: int, buffers: Any, offset: int) -> int:
        nonlocal left
        if left <= 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        read = original(descriptor, buffers, offset)
        left -= read
        return read

    monkeypatch.setattr(os, "preadv", failing)
    ran = cli("--force", inputs.recipe, inputs.source, old)
    assert (ran.code, ran.err) == (1, "error: the disk cannot read or write it\n")
    assert_untouched(old)


@dataclass
class Calls:
    """What was asked of the disk, in order; the call of one number fails, before any effect."""

    failing: int | None
    seen: list[str]

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("fsync", "replace", "rename"):
            monkeypatch.setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, original: Callable[..., None]) -> Callable[..., None]:
        def watched(*args: object) -> None:
            link = f"/proc/self/fd/{args[0]}" if name == "fsync" else None
            about = os.readlink(link) if link else os.fspath(cast(Path, args[1]))
            self.seen.append(f"{name} {Path(about).name}")
            if len(self.seen) - 1 == self.failing:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            original(*args)

        return watched


def watched_run(failing: int | None, cli: Cli, *args: object) -> tuple[int, list[str]]:
    calls = Calls(failing, [])
    with pytest.MonkeyPatch.context() as patch:
        calls.watch(patch)
        ran = cli(*args)
    if failing is not None:
        assert ran.err == "error: the disk cannot read or write it\n"
    return ran.code, calls.seen


def fill_cache(cli: Cli, args: Sequence[object]) -> None:
    """Let a first run write what later ones find in the user's cache; faults there are borne."""
    assert cli("--dry-run", *args).code == 0


def test_a_failing_sync_or_replace_leaves_the_old_output(
    cli: Cli, inputs: Inputs, old: Path
) -> None:
    """Each call in turn.  Up to the last replacement all is old; then all is new."""
    args = ("--force", inputs.recipe, inputs.source, old)
    scratch = old.parent / "scratch"
    scratch.mkdir()
    fill_cache(cli, args)
    code, calls = watched_run(None, cli, *args[:-1], scratch / old.name)
    assert code == 0
    new = sha256(scratch / old.name)
    shutil.rmtree(scratch)
    first = next(number for number, made in enumerate(calls) if made.startswith("replace"))
    synced = " ".join(calls[:first])
    assert old.name in synced
    assert manifest_path(old).name in synced
    for failing in range(first + 1):
        assert watched_run(failing, cli, *args)[0] == 1
        assert_untouched(old)
    for failing in range(first + 1, len(calls)):
        old.write_bytes(b"old")
        manifest_path(old).write_bytes(b"old manifest")
        assert watched_run(failing, cli, *args)[0] == 1
        if calls[failing].startswith("replace"):
            assert_untouched(old)  # what was replaced before is put back
        else:
            assert sha256(old) == new
            assert read_manifest(manifest_path(old)).output.files[0].sha256 == new
        assert names(old.parent) == ["out.manifest.json", "out.safetensors"]


@pytest.mark.parametrize("empty", [False, True])
def test_a_failing_sync_or_rename_leaves_no_folder(
    empty: bool, cli: Cli, inputs: Inputs, tmp_path: Path
) -> None:
    """Each call in turn; an empty folder that was there stays."""
    target = tmp_path / "out"
    if empty:
        target.mkdir()
    with demo.checkpoint() as source:
        args = (inputs.recipe, source, f"{target}/")
        fill_cache(cli, args)
        _, calls = watched_run(0, cli, *args)
        assert len(calls) == 1
        files = len(digests_of_run(args, cli, tmp_path)) + 1
        folders = 6  # unet, text_encoder, vae, scheduler, tokenizer and the whole
        for failing in (1, files - 1, files, files + folders - 1, files + folders):
            code, calls = watched_run(failing, cli, *args)
            assert code == 1
            assert names(tmp_path) == (["out"] if empty else [])
            assert not empty or names(target) == []
    assert [made.split()[0] for made in calls] == ["fsync"] * (files + folders) + ["rename"]


def digests_of_run(args: Sequence[object], cli: Cli, folder: Path) -> dict[str, str]:
    """Of an ordinary run's folder, which is removed again."""
    assert cli(*args[:-1], f"{folder}/scratch/").code == 0
    found = digests(folder / "scratch")
    shutil.rmtree(folder / "scratch")
    return found


# places ---------------------------------------------------------------------------------------


def run_as_nobody(recipe: str, source: str, *args: str) -> None:
    """Give up root's rights, to which every folder is writable, and run the command line."""
    if os.getuid() == 0:
        main(["--dry-run", "--quiet", recipe, source, "x.safetensors"])  # while all can be imported
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        except OSError as error:
            print(f"this root cannot become another user: {error}", file=sys.stderr)
            sys.exit(CANNOT)
    main(["--quiet", recipe, source, *args])


@pytest.fixture
def public(inputs: Inputs) -> Iterator[Inputs]:
    """The inputs where every user can read them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        if any(parent.stat().st_mode & 0o001 == 0 for parent in folder.parents):
            pytest.skip("the folder for temporary files is closed to other users")
        paths = []
        for path in (inputs.source, inputs.recipe, inputs.other):
            paths.append(folder / path.name)
            shutil.copyfile(path, paths[-1])
            paths[-1].chmod(0o644)
        yield Inputs(*paths)


def test_a_read_only_folder_exits_with_2(public: Inputs, server: ForkServer) -> None:
    folder = public.source.with_name("closed")
    folder.mkdir()
    (folder / "out.safetensors").write_bytes(b"old")
    folder.chmod(0o555)
    message = f"error: {folder}: not a folder that can be written to\n"
    for args in ((f"{folder}/out.safetensors", "--force"), (f"{folder}/out/",)):
        ran = server.call(run_as_nobody, public.recipe, public.source, *args)
        assert (ran.returncode, ran.stderr) == (2, message)
    ran = server.call(
        run_as_nobody, public.recipe, public.source, f"{folder}/x.safetensors", "--dry-run"
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert names(folder) == ["out.safetensors"]
    assert (folder / "out.safetensors").read_bytes() == b"old"
    folder.chmod(0o755)


def test_another_users_leftover_stops_no_run(public: Inputs, server: ForkServer) -> None:
    """In a folder like /tmp nobody can remove what is not theirs."""
    if os.getuid() != 0:
        pytest.skip("needs two users")
    folder = public.source.with_name("shared")
    folder.mkdir()
    folder.chmod(0o1777)
    for name in ("01234567.part", "89abcdef.part/unet"):
        (folder / f".out.safetensors.{name}").mkdir(parents=True)
    left = folder / ".out.safetensors.abcdef01.part"
    left.write_bytes(b"half")
    before = names(folder)
    ran = server.call(run_as_nobody, public.recipe, public.source, f"{folder}/out.safetensors")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert names(folder) == sorted([*before, "out.safetensors", "out.manifest.json"])


def test_a_file_system_that_cannot_sync_folders(
    cli: Cli, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems say EINVAL; the files are there nevertheless."""
    original = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert cli(inputs.recipe, inputs.source, tmp_path / "out.safetensors").code == 0
    with demo.checkpoint() as source:
        assert cli(inputs.recipe, source, f"{tmp_path}/out/").code == 0
    assert names(tmp_path) == ["out", "out.manifest.json", "out.safetensors"]


def test_another_file_system_than_the_inputs(cli: Cli, inputs: Inputs) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == inputs.source.stat().st_dev:
        pytest.skip("there is no second file system")
    with tempfile.TemporaryDirectory(dir=memory) as name:
        target = Path(name) / "out.safetensors"
        for _ in range(2):
            assert cli("--force", "--quiet", inputs.recipe, inputs.source, target).code == 0
            recorded = read_manifest(manifest_path(target)).output.files[0].sha256
            assert sha256(target) == recorded
        with demo.checkpoint() as source:
            assert cli("--quiet", inputs.recipe, source, f"{name}/out/").code == 0
        assert names(target.parent) == ["out", "out.manifest.json", "out.safetensors"]


def test_a_link_is_replaced_and_not_followed(cli: Cli, inputs: Inputs, old: Path) -> None:
    """Who links to a file elsewhere did not ask to have that one overwritten."""
    links = old.parent / "links"
    links.mkdir()
    target = links / "out.safetensors"
    target.symlink_to(old)
    manifest_path(target).symlink_to(manifest_path(old))
    assert cli("--force", inputs.recipe, inputs.source, target).code == 0
    assert not target.is_symlink()
    assert not manifest_path(target).is_symlink()
    assert sha256(target) == read_manifest(manifest_path(target)).output.files[0].sha256
    assert names(links) == ["out.manifest.json", "out.safetensors"]
    shutil.rmtree(links)
    assert_untouched(old)


# leftovers ------------------------------------------------------------------------------------

LEFT_FILE, LEFT_FOLDER = ".a.b.safetensors.01234567.part", ".a.b.safetensors.89abcdef.part"
STRANGERS = (
    ".aXb.safetensors.01234567.part",  # a dot is no wildcard
    ".a.b.safetensors.0123456.part",
    ".a.b.safetensors.012345678.part",
    ".a.b.safetensors.0123456g.part",
    ".a.b.safetensors.01234567.part.txt",
    ".a.b.safetensors.part",
    ".other.safetensors.01234567.part",
    "a.b.safetensors.01234567.part",
)


@pytest.mark.parametrize("as_folder", [False, True])
def test_the_next_run_removes_what_a_dead_one_left(as_folder: bool, tmp_path: Path) -> None:
    target = tmp_path / "a.b.safetensors"
    (tmp_path / LEFT_FILE).write_bytes(b"half")
    (tmp_path / LEFT_FOLDER / "unet").mkdir(parents=True)
    (tmp_path / LEFT_FOLDER / "unet" / "weights").write_bytes(b"half")
    for name in STRANGERS:
        (tmp_path / name).write_bytes(b"somebody's")
    if as_folder:
        with replacing_folder(target):
            pass
    else:
        with replacing(target):
            pass
    assert names(tmp_path) == sorted([*STRANGERS, target.name])
    assert all((tmp_path / name).read_bytes() == b"somebody's" for name in STRANGERS)


def test_a_link_named_like_a_leftover_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_bytes(b"precious")
    (tmp_path / LEFT_FOLDER).symlink_to(tmp_path / "precious")
    with replacing(tmp_path / "a.b.safetensors"):
        pass
    assert (tmp_path / "precious" / "file").read_bytes() == b"precious"


def pause_in_writing(recipe: str, source: str, out: str, kind: str) -> None:
    """A run that says when it writes and then waits for the end of standard input."""
    waiting = True

    def report(stage: str, done: int, total: int) -> None:
        nonlocal waiting
        if stage == "write" and waiting:
            waiting = False
            print("writing", flush=True)
            sys.stdin.read()

    options = Options(folder=kind == "folder", force=kind == "file")
    convert(load_recipe(Path(recipe)), Path(source), Path(out), options, report)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_run_leaves_a_live_one_alone(kind: str, inputs: Inputs, tmp_path: Path) -> None:
    """Two runs onto one target: what the first has written so far survives the second."""
    target = tmp_path / "out.safetensors"
    with demo.checkpoint() as model:
        source = model if kind == "folder" else inputs.source
        code = f"import sys; from {__name__} import pause_in_writing as f; f(*sys.argv[1:])"
        command = [sys.executable, "-c", code, str(inputs.recipe), str(source), str(target), kind]
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as live:
            assert live.stdout is not None
            assert live.stdout.readline() == "writing\n"
            held = debris(tmp_path)
            assert held
            if kind == "folder":
                with replacing_folder(target):
                    pass
            else:
                other = load_recipe(inputs.other)
                convert(other, source, target, Options(force=True), silent)
                second = sha256(target)
            assert sorted(debris(tmp_path)) == sorted(held)
            _, problems = live.communicate()
            assert (live.returncode, problems) == (0, "")
    assert debris(tmp_path) == []
    if kind == "folder":  # the empty one of the second run gave way
        read_manifest(target / "manifest.json")
        return
    assert sha256(target) != second
    assert sha256(target) == read_manifest(manifest_path(target)).output.files[0].sha256
