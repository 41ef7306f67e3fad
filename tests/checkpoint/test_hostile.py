"""Every hostile file is refused in one clear line, running nothing; the good ones are read."""

import io
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from erasepro_convert.checkpoint import Checkpoint, open_checkpoint
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.dtypes import packed
from tests.hostile import (
    EVIL,
    LIVE,
    MANY,
    PAYLOAD,
    VALUES,
    Archive,
    Good,
    Hostile,
    Member,
    good_files,
    hostile_files,
    legacy,
    members,
    named,
    named_by_stack,
    payload,
    require_clear,
    saved,
    truncations,
)

ROOT = Path(__file__).parents[2]
HOSTILE = hostile_files()
GOOD = good_files()
MEMORY_LIMIT = 500 << 20


def read_all(path: Path) -> Checkpoint:
    """Open a checkpoint and read every tensor in both ways."""
    checkpoint = open_checkpoint(path)
    for name in checkpoint.tensors:
        raw = b"".join(checkpoint.chunks(name))
        assert raw == bytes(packed(checkpoint.tensor(name)))
    return checkpoint


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Payloads write into the working directory; whatever the test, none may have run."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / PAYLOAD).exists()


def test_no_two_cases_share_a_name() -> None:
    names = [case.name for case in HOSTILE] + [case.name for case in GOOD]
    assert len(names) == len(set(names))


@pytest.mark.slow
@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
def test_hostile_files_are_refused(case: Hostile, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(case.build())
    with pytest.raises(CheckpointError, match=case.message) as refusal:
        read_all(tmp_path / "x")
    require_clear(refusal.value, "x")


@pytest.mark.slow
@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_good_files_are_read_bit_for_bit(case: Good, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(case.build())
    checkpoint = open_checkpoint(tmp_path / "x")
    assert set(checkpoint.tensors) >= set(case.values)
    assert len(checkpoint.tensors) == (len(case.values) or MANY)
    for name, value in case.values.items():
        read = checkpoint.tensor(name)
        assert (read.dtype, read.shape) == (value.dtype, value.shape)
        assert bytes(packed(read)) == bytes(packed(value.detach()))
        assert b"".join(checkpoint.chunks(name)) == bytes(packed(value.detach()))


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    count = 0
    for name, content in truncations():
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(CheckpointError) as refusal:
            pytest.fail(f"{name} is read as {read_all(tmp_path / 'x')}")
        require_clear(refusal.value, "x")
        count += 1
    assert count > 300


def test_a_wrong_crc_is_noticed_when_the_tensor_is_read(tmp_path: Path) -> None:
    """Not before: a model is not read twice.  The other tensors are as good as ever."""
    case = next(case for case in HOSTILE if case.name == "zip: wrong CRC of a storage")
    (tmp_path / "x").write_bytes(case.build())
    checkpoint = open_checkpoint(tmp_path / "x")
    assert torch.equal(checkpoint.tensor("a"), VALUES["a"])
    reads: list[Callable[[str], object]] = [
        checkpoint.tensor,
        lambda name: list(checkpoint.chunks(name)),
    ]
    for read in reads:
        with pytest.raises(CheckpointError, match=r"^x: it is damaged"):
            read("b")


def test_the_payloads_are_live(tmp_path: Path) -> None:
    """Control: a reader that obeys leaves a mark, so that finding none means something."""
    for form, named_as in {"GLOBAL": named, "STACK_GLOBAL": named_by_stack}.items():
        for number, (module, name, arguments) in enumerate(LIVE):
            call = payload(named_as, module, name, *arguments)
            (tmp_path / f"{form} {number}.pkl").write_bytes(b"\x80\x04" + call.code + b".")
    script = f"""
        import contextlib, os, pickle, warnings
        from pathlib import Path
        warnings.simplefilter("ignore")
        for path in sorted(Path().glob("*.pkl")):
            content = path.read_bytes()
            with contextlib.redirect_stdout(None):
                value = pickle.loads(content)
                if hasattr(value, "read"):
                    value.close()
            if os.path.exists({PAYLOAD!r}):
                os.unlink({PAYLOAD!r})
                print(path.name)
    """
    assert len(python(script, tmp_path).splitlines()) == 2 * len(LIVE)


def python(script: str, folder: Path) -> str:
    """What a script prints, run in a process of its own in ``folder``."""
    lines = script.splitlines()
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(line[indent:] for line in lines)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout


READ_CORPUS = f"""
from itertools import islice
import resource, sys
from pathlib import Path
from erasepro_convert.checkpoint import open_checkpoint
from erasepro_convert.errors import CheckpointError

def read(path):
    try:
        checkpoint = open_checkpoint(path)
        for name in islice(checkpoint.tensors, 1000):
            checkpoint.tensor(name)
            list(checkpoint.chunks(name))
    except CheckpointError:
        return "refused"
    return "read"

def peak_memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

WATCHED = ("import", "exec", "compile", "open", "os.", "subprocess.", "socket.", "ctypes.",
           "pickle.find_class", "marshal.", "shutil.")
events = []

def hook(event, arguments):
    if event.startswith(WATCHED):
        events.append((event, str(arguments[0]) if arguments else ""))

paths = sorted(Path("corpus").iterdir())
assert read(Path("corpus/good 0")) == "read"
before = peak_memory()
sys.addaudithook(hook)
for path in paths:
    print(path.name, read(path))
assert peak_memory() - before < {MEMORY_LIMIT}, peak_memory() - before
assert events == [("open", str(path)) for path in paths], [e for e in events if e[0] != "open"]
eval("1")
Path("control").write_text("")
assert [event for event, _ in events[len(paths):]] == ["compile", "exec", "open"], events
"""


@pytest.mark.slow
def test_reading_does_nothing_but_open_the_files_and_takes_little_memory(tmp_path: Path) -> None:
    """Python reports imports, executed code, opened files, processes, … to an audit hook.

    All files in one process, since neither the hook nor the peak of memory can be taken back.
    """
    files = {f"hostile {number}": case.build() for number, case in enumerate(HOSTILE)}
    files |= {f"hostile {name}": content for name, content in truncations()}
    files |= {f"good {number}": case.build() for number, case in enumerate(GOOD)}
    (tmp_path / "corpus").mkdir()
    for name, content in files.items():
        (tmp_path / "corpus" / name).write_bytes(content)
    outcomes = {"hostile": "refused", "good": "read"}
    printed = [f"{name} {outcomes[name.split()[0]]}" for name in sorted(files)]
    assert python(READ_CORPUS, tmp_path).splitlines() == printed


# --- Paths and changes of the file -----------------------------------------------------------


def test_paths_that_are_no_files_are_refused(tmp_path: Path) -> None:
    """In a process of its own: what hangs there is noticed."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link to a pipe").symlink_to("pipe")
    script = """
        from pathlib import Path
        from erasepro_convert.checkpoint import open_checkpoint
        from erasepro_convert.errors import CheckpointError
        for path in ("pipe", "folder", "dangling", "loop", "link to a pipe", "/dev/zero"):
            try:
                open_checkpoint(Path(path))
            except CheckpointError as error:
                print(error)
    """
    refusals = [
        "pipe: it is not a regular file",
        "folder: a folder, but no diffusers model",
        "dangling: it is a link that leads nowhere",
        "loop: it is a link that leads nowhere",
        "link to a pipe: it is not a regular file",
        "zero: it is not a regular file",
    ]
    printed = python(script, tmp_path).splitlines()
    assert len(printed) == len(refusals)
    for line, refusal in zip(printed, refusals, strict=True):
        assert line.startswith(refusal)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def rewrite(path: Path) -> None:
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.write(content)


@pytest.mark.parametrize("change", [append, truncate, empty, rewrite])
@pytest.mark.parametrize("container", ["zip", "legacy", "safetensors"])
def test_a_file_that_changes_meanwhile_is_refused(
    change: Callable[[Path], None], container: str, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    path.write_bytes(next(case.build() for case in GOOD if case.name == container))
    time.sleep(0.05)  # file systems stamp changes some milliseconds apart
    checkpoint = open_checkpoint(path)
    change(path)
    reads: list[Callable[[str], object]] = [
        checkpoint.tensor,
        lambda name: list(checkpoint.chunks(name)),
        lambda name: checkpoint.files[0].hashes(),
    ]
    for read in reads:
        for name in ("float", "long"):
            with pytest.raises(CheckpointError, match="changed while it was read") as refusal:
                read(name)
            require_clear(refusal.value, "x")


def test_a_file_that_is_replaced_is_still_read_as_it_was(tmp_path: Path) -> None:
    """Control: another file of the same name is not the open one."""
    path = tmp_path / "x"
    path.write_bytes(saved(VALUES))
    checkpoint = open_checkpoint(path)
    (tmp_path / "y").write_bytes(b"other")
    (tmp_path / "y").replace(path)
    with pytest.raises(CheckpointError):
        open_checkpoint(path)
    path.unlink()
    assert checkpoint.tensors.keys() == VALUES.keys()


def test_what_is_built_by_hand_is_what_torch_reads() -> None:
    """Control: the builders speak torch's own format, or refusing their lies proves nothing."""
    for content in (Archive(members()).build(), legacy()):
        read = torch.load(io.BytesIO(content), weights_only=True)
        assert read.keys() == VALUES.keys()
        assert all(torch.equal(read[name], value) for name, value in VALUES.items())


@pytest.mark.parametrize("record", ["version", ".data/version", "VERSION"])
@pytest.mark.parametrize(
    "content", [b"1", b"3\n", b"10\n", b"0\n", b"11\n", b"-3", b"", b"x\n", b"9" * 30]
)
def test_versions_are_those_that_torch_reads(record: str, content: bytes, tmp_path: Path) -> None:
    """An unknown one, or none, refuses the file there and here."""
    bare = [member for member in members() if member.name != "x/version"]
    file = Archive([*bare, Member(f"x/{record}", content)]).build()
    (tmp_path / "x").write_bytes(file)
    if content in (b"1", b"3\n", b"10\n"):
        assert torch.load(io.BytesIO(file), weights_only=True).keys() == VALUES.keys()
        assert read_all(tmp_path / "x").tensors.keys() == VALUES.keys()
        return
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        torch.load(io.BytesIO(file), weights_only=True)
    with pytest.raises(CheckpointError, match="torch reads 1 to 10") as refusal:
        open_checkpoint(tmp_path / "x")
    require_clear(refusal.value, "x")


def test_a_zip_without_a_version_is_refused_as_by_torch(tmp_path: Path) -> None:
    file = Archive([member for member in members() if member.name != "x/version"]).build()
    (tmp_path / "x").write_bytes(file)
    with pytest.raises(RuntimeError):
        torch.load(io.BytesIO(file), weights_only=True)
    with pytest.raises(CheckpointError, match="does not say its version"):
        open_checkpoint(tmp_path / "x")


def test_the_hostile_pickle_is_one_that_others_obey(tmp_path: Path) -> None:
    """Control: the same bytes that are refused here run in Python's own reader."""

    class Obedient(pickle.Unpickler):
        def persistent_load(self, reference: object) -> object:
            raise pickle.UnpicklingError("reached the tensors")

    with pytest.raises(pickle.UnpicklingError, match="reached"):
        Obedient(io.BytesIO(EVIL)).load()
    assert (tmp_path / PAYLOAD).exists()
    (tmp_path / PAYLOAD).unlink()
