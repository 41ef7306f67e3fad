"""Types and objects that SD1.x never has: dropped by name, or refused by what they are."""

import json
import struct
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, deserialize
from safetensors.torch import save_file
from torch import nn

from erasepro_convert.checkpoint import open_checkpoint
from erasepro_convert.errors import CheckpointError
from erasepro_convert.manifest import manifest_path, read_manifest
from erasepro_convert.runtime.dtypes import BITS, SAFETENSORS_DTYPES
from erasepro_convert.sd1.unet import cross_attentions
from tests.conftest import Cli
from tests.hostile import require_clear, safetensors
from tests.miniature import State

BLOCK = cross_attentions()[0].to_k


def entry(start: int, end: int, dtype: str, count: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": [count], "data_offsets": [start, end]}


@pytest.mark.parametrize("count", range(5))
@pytest.mark.parametrize("code", sorted(BITS))
def test_a_type_takes_the_room_that_the_library_gives_it(
    code: str, count: int, tmp_path: Path
) -> None:
    """Four bits, six, or 128: what the library reads is read, what it refuses is refused."""
    for size in {count * BITS[code] // 8, count * BITS[code] // 8 + 1}:
        content = safetensors({"a": entry(0, size, code, count)}, bytes(size))
        (tmp_path / "x").write_bytes(content)
        try:
            ((_, theirs),) = deserialize(content)  # type: ignore[no-untyped-call]
        except SafetensorError:
            with pytest.raises(CheckpointError, match="wrongly"):
                open_checkpoint(tmp_path / "x")
            continue
        assert code in SAFETENSORS_DTYPES
        checkpoint = open_checkpoint(tmp_path / "x")
        assert checkpoint.tensors["a"].dtype == theirs["dtype"] == code
        assert b"".join(checkpoint.chunks("a")) == bytes(size)


def quantised() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.arange(4.0), 0.1, 0, torch.qint8)


def quantised_by_channel() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scales, zeros = torch.ones(4), torch.zeros(4)
        return torch.quantize_per_channel(torch.ones(4, 2), scales, zeros, 0, torch.qint8)


TORCH_TYPES: dict[str, Callable[[], torch.Tensor]] = {
    "U16": lambda: torch.ones(3, dtype=torch.uint16),
    "U32": lambda: torch.ones(3, dtype=torch.uint32),
    "U64": lambda: torch.ones(3, dtype=torch.uint64),
    "C64": lambda: torch.ones(3, dtype=torch.complex64),
    "C128": lambda: torch.ones(3, dtype=torch.complex128),
    "C32": lambda: torch.ones(3, dtype=torch.complex32),
    "F8_E4M3": lambda: torch.ones(3).to(torch.float8_e4m3fn),
    "F8_E5M2": lambda: torch.ones(3).to(torch.float8_e5m2),
    "F8_E4M3FNUZ": lambda: torch.ones(3).to(torch.float8_e4m3fnuz),
    "F8_E5M2FNUZ": lambda: torch.ones(3).to(torch.float8_e5m2fnuz),
    "QI8": quantised,
    "QI8 by channel": quantised_by_channel,
}


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("case", TORCH_TYPES)
def test_every_type_of_torch_is_told(case: str, new: bool, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = TORCH_TYPES[case]()
        torch.save({"a": value}, tmp_path / "x", _use_new_zipfile_serialization=new)
    info = open_checkpoint(tmp_path / "x").tensors["a"]
    assert (info.dtype, info.shape) == (case.split(maxsplit=1)[0], tuple(value.shape))
    assert info.nbytes == value.numel() * value.element_size()


def with_note(value: Any) -> Any:
    value.note = "set by somebody"
    return value


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize(
    "value",
    [
        nn.Parameter(torch.arange(3.0)),
        with_note(nn.Parameter(torch.arange(3.0))),
        with_note(torch.arange(3.0)),
        with_note(torch.arange(3.0).to(torch.float8_e4m3fn)),
    ],
    ids=["parameter", "parameter with an attribute", "tensor with an attribute", "fp8 with one"],
)
def test_attributes_of_tensors_do_no_harm(
    value: torch.Tensor, protocol: int, tmp_path: Path
) -> None:
    torch.save({"a": value}, tmp_path / "x", pickle_protocol=protocol)
    read = open_checkpoint(tmp_path / "x").tensor("a")
    assert torch.equal(read.float(), value.detach().float())


class Replaced(nn.Parameter):
    """Pickles as a parameter whose attribute ``data`` is another tensor."""

    def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
        other = {"data": torch.full((3,), 9.0)}
        rebuild = torch._utils._rebuild_parameter_with_state
        return rebuild, (torch.arange(3.0), False, OrderedDict(), other)


def test_an_attribute_that_would_replace_the_values_is_refused(tmp_path: Path) -> None:
    """Torch reads the other tensor; who looks at the storage alone would see this one."""
    torch.save({"a": Replaced(torch.arange(3.0))}, tmp_path / "x")
    assert torch.load(tmp_path / "x", weights_only=True)["a"].tolist() == [9.0] * 3
    with pytest.raises(CheckpointError, match="attributes that are tensors"):
        open_checkpoint(tmp_path / "x")


def of_numpy(size: int) -> dict[str, Any]:
    return {"a": np.zeros(size, np.float32), "b": np.zeros(size, np.float32)}


def nested() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Sequential(nn.Linear(2, 2)), "holds whole modules: save their state_dict"),
        (lambda: {"state_dict": nn.Linear(2, 2)}, "holds whole modules: save their state_dict"),
        (lambda: nn.ParameterDict({"a": torch.ones(2)}), "holds whole modules: save their state_d"),
        (lambda: {"p": nn.ParameterDict({"a": torch.ones(2)})}, "whole modules: save their state"),
        (lambda: {"a": torch.ones(2, 2).to_sparse()}, "holds sparse tensors: save what to_dense"),
        (lambda: {"a": nested()}, "holds nested tensors: save each by itself"),
        (lambda: {"a": torch.ones(2, device="meta")}, "holds tensors without values: save loaded"),
        (lambda: of_numpy(3), "holds numpy arrays and no torch tensor: turn them into tensors"),
        (lambda: of_numpy(3 << 20), "more than 8388608 bytes.*numpy arrays do not: turn them into"),
        (
            lambda: {"a": torch.ones(2, dtype=torch.complex64).conj().imag},
            r"to be conjugated or negated: save what resolve_conj\(\) and resolve_neg\(\) give",
        ),
        (lambda: {"a": torch.ones(2, dtype=torch.complex64).conj()}, "to be conjugated or negated"),
    ],
)
def test_other_forms_are_refused_in_words_that_help(
    make: Callable[[], object], message: str, protocol: int, new: bool, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(
            make(), tmp_path / "x", pickle_protocol=protocol, _use_new_zipfile_serialization=new
        )
    with pytest.raises(CheckpointError, match=message) as refusal:
        open_checkpoint(tmp_path / "x")
    require_clear(refusal.value, "x")


def save_packed(state: State, path: Path, code: str, name: str, shape: tuple[int, ...]) -> None:
    """Write a safetensors file with one more tensor, or one in another type."""
    save_file({key: value for key, value in state.items() if key != name}, path)
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    count = 1
    for side in shape:
        count *= side
    end = len(data) + count * BITS[code] // 8
    header[name] = {"dtype": code, "shape": shape, "data_offsets": [len(data), end]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data + bytes(end - len(data)))


@pytest.mark.slow
@pytest.mark.parametrize("code", ["U16", "U32", "C64", "F8_E8M0", "F4", "F6_E2M3"])
def test_an_unread_tensor_of_any_type_is_dropped_and_listed(
    code: str, van_gogh: Path, state: State, cli: Cli, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    save_packed(state, source, code, "extra", (4, 2))
    assert cli(van_gogh, source, target).code == 0
    (dropped,) = read_manifest(manifest_path(target)).tensors.dropped
    assert dropped.name == "extra"
    assert dropped.reason == f"no SD1.x loader reads it (stored as {code})"
    assert "extra" not in open_checkpoint(target).tensors


@pytest.mark.slow
@pytest.mark.parametrize("case", ["C128", "QI8", "U16"])
def test_an_unread_tensor_of_a_pickle_too(
    case: str, van_gogh: Path, state: State, cli: Cli, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save({**state, "extra": TORCH_TYPES[case]()}, tmp_path / "in.ckpt")
    target = tmp_path / "out.safetensors"
    assert cli(van_gogh, tmp_path / "in.ckpt", target).code == 0
    (dropped,) = read_manifest(manifest_path(target)).tensors.dropped
    assert dropped.name == "extra"
    assert dropped.reason == f"no SD1.x loader reads it (stored as {case})"


POSITIONS = "cond_stage_model.transformer.text_model.embeddings.position_ids"
WIDTH = "cond_stage_model.transformer.text_model.final_layer_norm.weight"
BIAS = "model.diffusion_model.out.2.bias"


@pytest.mark.parametrize(
    ("code", "name", "shape"),
    [
        ("U32", BLOCK, (32, 6)),
        ("U32", WIDTH, (12,)),
        ("F4", BIAS, (4,)),
        ("C64", BIAS, (4,)),
        ("F8_E8M0", POSITIONS, (1, 77)),
    ],
)
def test_a_needed_tensor_of_such_a_type_is_named(
    code: str,
    name: str,
    shape: tuple[int, ...],
    van_gogh: Path,
    state: State,
    cli: Cli,
    tmp_path: Path,
) -> None:
    """With its type, before its shape: packed values have another one."""
    save_packed(state, tmp_path / "in.safetensors", code, name, shape)
    ran = cli(van_gogh, tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    assert ran.code == 4
    assert f"{name} is stored as {code}" in ran.err
    assert "quantised checkpoints can't be edited" in ran.err
    assert not (tmp_path / "out.safetensors").exists()
