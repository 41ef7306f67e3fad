"""Writing: what the library reads is what we wrote, in one step or not at all."""

import errno
import hashlib
import json
import os
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from erasepro_convert.checkpoint.open_file import OpenFile
from erasepro_convert.output.safetensors_writer import OutputTensor, WeightFile, stream
from erasepro_convert.runtime.dtypes import BITS, dtype_code, packed
from erasepro_convert.runtime.memory import CHUNK_SIZE
from erasepro_convert.storage.atomic import replacing
from tests.miniature import State

TENSORS: State = {
    "b.half": torch.arange(6).half().reshape(2, 3),
    "a.bool": torch.tensor([True]),
    "z.float": torch.randn(3, generator=torch.Generator().manual_seed(0)),
    "é.scalar": torch.tensor(7, dtype=torch.int64),
    "m.empty": torch.empty(0),
}


def pieces(value: torch.Tensor) -> Iterator[memoryview]:
    """Its bytes in two parts."""
    data = packed(value)
    yield data[:1]
    yield data[1:]


def write(path: Path, tensors: State = TENSORS, metadata: dict[str, str] | None = None) -> str:
    outputs = [
        OutputTensor(
            name,
            dtype_code(value.dtype),
            tuple(value.shape),
            value.nbytes,
            partial(pieces, value),
            (name, tuple(value.shape)),
        )
        for name, value in tensors.items()
    ]
    with replacing(path) as (file,):
        return stream(WeightFile(outputs, metadata or {}), file, lambda *_: None).sha256


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    metadata = {"format": "pt", "note": 'é \n "quoted"'}
    write(tmp_path / "x", metadata=metadata)
    read = load_file(tmp_path / "x")
    assert set(read) == set(TENSORS)
    for name, value in TENSORS.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value)
    with safe_open(tmp_path / "x", framework="pt") as file:
        assert file.metadata() == metadata


def test_the_layout_is_the_librarys(tmp_path: Path) -> None:
    """Same offsets and padding as save_file, and the order too where the names are in order."""
    write(tmp_path / "ours", dict(sorted(TENSORS.items())), metadata={"format": "pt"})
    save_file(TENSORS, tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def origin(tmp_path: Path) -> tuple[OutputTensor, bytes]:
    """A tensor whose bytes lie in a file, and these bytes: more than one chunk of them."""
    content = torch.arange(3 * CHUNK_SIZE // 4, dtype=torch.int32).numpy().tobytes()
    (tmp_path / "in").write_bytes(b"ahead" + content + b"behind")
    file = OpenFile(tmp_path / "in")
    shape = (len(content) // 4,)
    data = partial(file.chunks, 5, len(content))
    return OutputTensor("a", "I32", shape, len(content), data, ("a", shape), (file, 5)), content


@pytest.mark.parametrize("trouble", [None, errno.EXDEV, errno.EOPNOTSUPP, 0])
def test_the_kernel_copies_what_it_can(
    trouble: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it cannot is written; digests and bytes are the same either way (0: it copies none)."""
    tensor, content = origin(tmp_path)
    calls = []
    original = os.copy_file_range

    def copy(source: int, target: int, count: int, offset: int) -> int:
        calls.append(count)
        if trouble == 0 or len(calls) < 2:
            return 0 if trouble == 0 else original(source, target, count // 2, offset)
        if trouble:
            raise OSError(trouble, "no")
        return original(source, target, count, offset)

    monkeypatch.setattr(os, "copy_file_range", copy)
    with replacing(tmp_path / "x") as (file,):
        written = stream(WeightFile([tensor], {}), file, lambda *_: None, autov3=True)
    whole = (tmp_path / "x").read_bytes()
    assert whole.endswith(content)
    assert len(whole) == written.size
    assert hashlib.sha256(whole).hexdigest() == written.sha256
    assert hashlib.sha256(content).hexdigest() == written.autov3
    assert calls == [CHUNK_SIZE] if trouble == 0 else len(calls) > 1


def test_a_disk_that_fails_while_the_kernel_copies_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor, _ = origin(tmp_path)

    def copy(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "copy_file_range", copy)
    with pytest.raises(OSError, match="No space"), replacing(tmp_path / "x") as (file,):
        stream(WeightFile([tensor], {}), file, lambda *_: None)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_what_comes_late_comes_last_of_its_width(tmp_path: Path) -> None:
    """So that all else can be written before it is known, and every tensor stays aligned."""

    def tensor(name: str, dtype: str, nbytes: int, late: bool) -> OutputTensor:
        data = partial(iter, [memoryview(bytes(nbytes))])
        return OutputTensor(name, dtype, (4,), nbytes, data, (name, (4,)), is_late=late)

    tensors = [
        tensor("half, late", "F16", 8, True),
        tensor("half", "F16", 8, False),
        tensor("float, late", "F32", 16, True),
        tensor("float", "F32", 16, False),
    ]
    with replacing(tmp_path / "x") as (file,):
        stream(WeightFile(tensors, {}), file, lambda *_: None)
    data = (tmp_path / "x").read_bytes()
    entries = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    entries.pop("__metadata__", None)
    placed = sorted(entries, key=lambda name: int(entries[name]["data_offsets"][0]))
    assert placed == ["float", "float, late", "half", "half, late"]


def test_what_is_written_is_sent_on_to_the_disk_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless it goes nowhere, as in a dry run: a device cannot be synced."""
    tensor, _ = origin(tmp_path)
    synced = []
    original = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(descriptor)
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr("erasepro_convert.output.safetensors_writer.SYNC_EVERY", 1)
    with open(os.devnull, "wb") as nowhere:
        rehearsed = stream(WeightFile([tensor], {}), nowhere, lambda *_: None)
    assert not synced
    with open(tmp_path / "x", "xb") as file:
        assert stream(WeightFile([tensor], {}), file, lambda *_: None) == rehearsed
    assert len(synced) == 3


def test_metadata_order_does_not_matter(tmp_path: Path) -> None:
    first = write(tmp_path / "a", metadata={"x": "1", "y": "2", "z": "3"})
    assert write(tmp_path / "b", metadata={"z": "3", "y": "2", "x": "1"}) == first


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    digest = write(tmp_path / "x")
    assert hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest() == digest


def test_the_header_is_aligned(tmp_path: Path) -> None:
    write(tmp_path / "x")
    content = (tmp_path / "x").read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    assert size % 8 == 0
    header = json.loads(content[8 : 8 + size])
    del header["__metadata__"]
    assert len(header) == len(TENSORS)
    for entry in header.values():
        assert entry["data_offsets"][0] % (BITS[entry["dtype"]] // 8) == 0


def test_the_mode_follows_the_umask(tmp_path: Path) -> None:
    """A released file is readable as any other that the user makes (the library's is 0600)."""
    before = os.umask(0o022)
    try:
        write(tmp_path / "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644


@pytest.mark.parametrize(
    "failure", [RuntimeError("boom"), KeyboardInterrupt(), OSError(28, "No space left on device")]
)
def test_a_failure_leaves_the_old_file_and_nothing_else(
    failure: BaseException, tmp_path: Path
) -> None:
    target = tmp_path / "x"
    target.write_bytes(b"old")
    with pytest.raises(type(failure)), replacing(target) as (file,):
        file.write(b"half of the new")
        raise failure
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failing_replace_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="Input/output"), replacing(tmp_path / "x"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_signal_while_writing_cleans_up(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "x") as (file,):
        file.write(b"half")
        signal.raise_signal(signal.SIGINT)
    assert list(tmp_path.iterdir()) == []


def test_signals_are_held_back_while_other_threads_could_take_them() -> None:
    script = """
import signal, sys, threading
from erasepro_convert.runtime.signals import uninterrupted
strike = threading.Thread(target=signal.raise_signal, args=(signal.SIGINT,))
try:
    with uninterrupted():
        strike.start()
        strike.join()
        print("done")
except KeyboardInterrupt:
    print("then interrupted")
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["done", "then interrupted"]
