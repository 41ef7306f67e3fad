"""Objects in stores come in blocks that know nothing of elements: what is read is the same."""

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
import torch
from safetensors.torch import save, save_file

from erasepro_convert.checkpoint import Checkpoint, open_checkpoint
from erasepro_convert.checkpoint.single_pass import SinglePass
from erasepro_convert.conversion.convert import convert
from erasepro_convert.conversion.options import Options
from erasepro_convert.errors import CheckpointError
from erasepro_convert.recipe import load_recipe
from erasepro_convert.runtime.dtypes import BITS, is_finite, packed
from erasepro_convert.sd1.keys import Widths
from erasepro_convert.storage import remote_file as remote
from erasepro_convert.storage.byte_ranges import ObjectStat
from erasepro_convert.storage.location import locate
from tests.conftest import VAN_GOGH
from tests.hostile import saved
from tests.miniature import State, state_dict

NARROW = Widths((32, 32, 32, 32), 128, 4, (32, 32, 32, 32), 48, 48)
THERE = "memory://x"
SIZES = [1, 3, 5, 7, 9, 11, 13, 15, 31]
STATE: State = {
    "byte": torch.arange(3, dtype=torch.uint8),
    "half": torch.arange(13).half() / 3,
    "float": torch.arange(15.0).reshape(5, 3) / 3,
    "bool": torch.tensor([True]),
    "bfloat": torch.arange(5).bfloat16() / 3,
    "double": torch.arange(5.0, dtype=torch.float64) / 3,
    "long": torch.arange(6),
    "short": torch.arange(3, dtype=torch.int16),
    "scalar": torch.tensor(0.5),
    "empty": torch.empty(0),
    "transposed": torch.arange(6.0).reshape(3, 2).T,
}


def packed_state(state: State) -> State:
    return {name: value.contiguous() for name, value in state.items()}


def unpadded(state: State) -> bytes:
    """Safetensors whose values begin at an odd place, in the order of their names."""
    header, content = {}, b""
    codes = {torch.uint8: "U8", torch.half: "F16", torch.float: "F32", torch.bool: "BOOL"}
    codes |= {torch.bfloat16: "BF16", torch.float64: "F64", torch.int64: "I64"}
    codes |= {torch.int16: "I16"}
    for name, value in state.items():
        start, content = len(content), content + bytes(packed(value))
        header[name] = {
            "dtype": codes[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [start, len(content)],
        }
    text = json.dumps(header).encode()
    text += b" " * (len(text) % 2 == 0)
    return struct.pack("<Q", len(text)) + text + content


CONTAINERS: dict[str, Callable[[State], bytes]] = {
    "safetensors": lambda state: save(packed_state(state)),
    "safetensors, unpadded": unpadded,
    "zip": saved,
    "legacy": lambda state: saved(state, _use_new_zipfile_serialization=False),
}


class Stored:
    """What a store has, at hand: parts of it, nothing around them."""

    def __init__(self, content: bytes) -> None:
        self.content, self.stat = content, ObjectStat(len(content))

    def get(self, start: int, end: int) -> bytes:
        return self.content[start:end]


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Checkpoint]:
    """Put a file into a store that is in memory, and open it there."""

    def opened(content: bytes) -> Checkpoint:
        monkeypatch.setattr(remote, "open_range_reader", lambda _: Stored(content))
        return open_checkpoint(locate(THERE))

    return opened


@pytest.fixture(params=SIZES)
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Have everything travel and be handed on in pieces so small."""
    for name in ("BLOCK_SIZE", "PAGE_SIZE", "CHUNK_SIZE"):
        monkeypatch.setattr(remote, name, request.param)
    monkeypatch.setattr(remote, "GAP_LIMIT", 16)
    size: int = request.param
    return size


@pytest.mark.slow
@pytest.mark.parametrize("container", CONTAINERS)
def test_no_element_is_cut_in_two(
    container: str, block: int, put: Callable[[bytes], Checkpoint]
) -> None:
    """In pieces one by one or announced, with or without digests; and the values are right."""
    content = CONTAINERS[container](STATE)
    checkpoint = put(content)
    assert checkpoint.tensors.keys() == STATE.keys()
    examination = SinglePass(checkpoint, lambda *_: None)
    names = checkpoint.in_order(STATE)
    examination.expect(names, [])
    ahead = checkpoint.prefetching(names)
    for read in (checkpoint.chunks, ahead, examination.chunks):
        for name in names:
            size = BITS[checkpoint.tensors[name].dtype] // 8
            pieces = list(read(name))
            assert not [len(piece) for piece in pieces if len(piece) % size]
            assert b"".join(pieces) == bytes(packed(STATE[name]))
    (hashes,) = examination.hashes()
    assert hashes is None or hashes.sha256 == hashlib.sha256(content).hexdigest()
    assert checkpoint.files[0].hashes().sha256 == hashlib.sha256(content).hexdigest()
    for name, value in STATE.items():
        assert torch.equal(checkpoint.tensor(name), value)


@pytest.mark.parametrize("container", CONTAINERS)
def test_what_is_not_finite_is_seen_wherever_it_lies(
    container: str, block: int, put: Callable[[bytes], Checkpoint]
) -> None:
    damaged: State = {"byte": STATE["byte"]}
    for name in ("half", "bfloat", "float", "double"):
        for place in range(5):
            value = STATE[name].flatten()[:5].clone()
            value[place] = float("nan") if place % 2 else -float("inf")
            damaged[f"{name} {place}"] = value
    checkpoint = put(CONTAINERS[container](damaged))
    examination = SinglePass(checkpoint, lambda *_: None)
    assert list(examination.chunks("byte"))
    for name in set(damaged) - {"byte"}:
        code = checkpoint.tensors[name].dtype
        assert not all(is_finite(code, piece) for piece in checkpoint.chunks(name))
        with pytest.raises(CheckpointError, match="NaN or infinite"):
            list(examination.chunks(name))


@pytest.mark.slow
@pytest.mark.parametrize("block", [4097], indirect=True)
def test_a_conversion_casts_what_comes_in_odd_blocks(block: int, tmp_path: Path) -> None:
    """To the same values as from a file that is here."""
    model = state_dict(NARROW)
    (tmp_path / "recipe.yaml").write_text(VAN_GOGH, encoding="utf-8")
    save_file(model, tmp_path / "x.safetensors")
    recipe = load_recipe(tmp_path / "recipe.yaml")
    places = {"here": tmp_path / "x.safetensors", "there": locate(THERE)}
    legacy = CONTAINERS["legacy"]({"odd": STATE["byte"], **model})
    fsspec.filesystem("memory").pipe_file("/x", legacy)
    digests = set()
    for name, place in places.items():
        target = tmp_path / f"{name}.safetensors"
        manifest = convert(recipe, place, target, Options(dtype="fp16"), lambda *_: None)
        digests.add(manifest.output.tensors_digest)
    assert len(digests) == 1
