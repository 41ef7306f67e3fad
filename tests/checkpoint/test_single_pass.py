"""One pass: what is read for the output is checked, and hashed with all the rest, on the way."""

import hashlib
import random
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from erasepro_convert.checkpoint import open_checkpoint
from erasepro_convert.checkpoint.open_file import FileHasher, OpenFile
from erasepro_convert.checkpoint.single_pass import SinglePass
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.dtypes import FLOATING_DTYPES, is_finite, packed, torch_dtype
from erasepro_convert.runtime.memory import CHUNK_SIZE


@pytest.mark.parametrize("seed", range(6))
def test_a_file_is_hashed_whatever_is_read_of_it_and_when(seed: int, tmp_path: Path) -> None:
    """Pieces in order, out of order, overlapping, or none at all: the digest is the file's."""
    shuffle = random.Random(seed)
    content = shuffle.randbytes(2 * CHUNK_SIZE + 12345)
    (tmp_path / "file").write_bytes(content)
    seen: list[int] = []
    hashing = FileHasher(OpenFile(tmp_path / "file"), 1000, seen.append)
    cuts = sorted(shuffle.sample(range(len(content)), 2 * seed))
    pieces = [*pairwise(cuts)]
    if seed % 2:
        shuffle.shuffle(pieces)
    for start, end in pieces:
        assert b"".join(hashing.chunks(start, end - start)) == content[start:end]
    hashes = hashing.finish()
    assert hashing.finish() == hashes
    assert hashes.sha256 == hashlib.sha256(content).hexdigest()
    assert hashes.autov3 == hashlib.sha256(content[1000:]).hexdigest()
    assert seen == sorted(seen)
    assert seen[-1] == len(content)


def test_each_byte_of_a_file_read_in_order_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {f"t{i}": torch.randn(100, 100) for i in range(5)}
    torch.save(state, tmp_path / "x.pt")
    checkpoint = open_checkpoint(tmp_path / "x.pt")
    examination = SinglePass(checkpoint, lambda *_: None)
    reads: list[tuple[int, int]] = []
    original = OpenFile.read_into

    def read_into(self: OpenFile, view: memoryview, start: int) -> None:
        reads.append((start, len(view)))
        original(self, view, start)

    monkeypatch.setattr(OpenFile, "read_into", read_into)
    for name, value in state.items():
        assert b"".join(examination.chunks(name)) == bytes(packed(value))
    (hashes,) = examination.hashes()
    assert hashes
    assert hashes.sha256 == hashlib.sha256((tmp_path / "x.pt").read_bytes()).hexdigest()
    assert sum(count for _, count in reads) == checkpoint.size
    assert all(a + n == b for (a, n), (b, _) in pairwise(reads))


def test_what_is_no_number_is_found_on_the_way(tmp_path: Path) -> None:
    state = {"good": torch.ones(9), "bad": torch.tensor([1.0, float("nan")])}
    save_file(state, tmp_path / "x.safetensors")
    examination = SinglePass(open_checkpoint(tmp_path / "x.safetensors"), lambda *_: None)
    assert b"".join(examination.chunks("good")) == bytes(packed(state["good"]))
    with pytest.raises(CheckpointError, match="bad holds NaN"):
        list(examination.chunks("bad"))


def test_bytes_that_are_not_as_the_zip_says_are_found_on_the_way(tmp_path: Path) -> None:
    torch.save({"a": torch.full((64,), 3.0)}, tmp_path / "x.pt")
    content = (tmp_path / "x.pt").read_bytes()
    values = bytes(packed(torch.full((64,), 3.0)))
    assert content.count(values) == 1
    (tmp_path / "x.pt").write_bytes(content.replace(values, values[:-4] + bytes(4)))
    examination = SinglePass(open_checkpoint(tmp_path / "x.pt"), lambda *_: None)
    with pytest.raises(CheckpointError, match="CRC"):
        list(examination.chunks("a"))


@pytest.mark.parametrize("code", [*FLOATING_DTYPES, "F8_E4M3", "F8_E5M2"])
def test_finite_is_what_torch_calls_finite(code: str) -> None:
    dtype = torch_dtype(code)
    largest = torch.finfo(dtype).max
    for value in (0.0, -0.0, 1.0, -1.0, largest, -largest, torch.finfo(dtype).tiny):
        assert is_finite(
            code, packed(torch.tensor([1.0, value, -2.0], dtype=torch.float64).to(dtype))
        )
    for value in (float("nan"), float("inf"), float("-inf")):
        for sign in (1, -1):
            values = torch.tensor([1.0, sign * value, -2.0]).to(dtype)
            assert is_finite(code, packed(values)) == bool(values.double().isfinite().all())


def test_integers_are_finite_and_so_is_nothing() -> None:
    assert is_finite("I64", packed(torch.tensor([-1, 2**62])))
    assert is_finite("F16", memoryview(b""))


@pytest.mark.parametrize("transposed", [False, True])
def test_rows_are_read_without_the_others(transposed: bool, tmp_path: Path) -> None:
    table = torch.randn(9, 6)
    torch.save({"a": table.T if transposed else table}, tmp_path / "x.pt")
    checkpoint = open_checkpoint(tmp_path / "x.pt")
    rows = checkpoint.owner("a").rows(checkpoint.tensors["a"], [4, 0, 4])
    assert torch.equal(rows, (table.T if transposed else table)[[4, 0, 4]])
