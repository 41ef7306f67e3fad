"""Reading: three containers give the same tensors, nothing in a pickle is run, lies are refused."""

import builtins
import io
import json
import os
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from erasepro_convert.checkpoint import Checkpoint, open_checkpoint
from erasepro_convert.errors import CheckpointError

Save = Callable[[object, Path], None]


def save_zip(value: object, path: Path) -> None:
    torch.save(value, path)


def save_legacy(value: object, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


TORCH_CONTAINERS = [save_zip, save_legacy]


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    """Every dtype and shape of interest: scalars, empty, strided, shared storage."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    return {
        "float": base,
        "half": base.half() / 3,
        "bfloat": base.bfloat16() / 3,
        "double": base.double() / 3,
        "long": torch.arange(77)[None],
        "int": torch.tensor(7, dtype=torch.int32),
        "bool": torch.tensor([True, False]),
        "byte": torch.arange(5, dtype=torch.uint8),
        "empty": torch.empty(0),
        "transposed": base.T,
        "every second": base[:, ::2],
        "tail": base[2:],
    }


@pytest.mark.parametrize("save", TORCH_CONTAINERS)
@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"state_dict": t, "epoch": 3}])
def test_torch_containers(
    save: Save, wrap: Callable[[Any], Any], tensors: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """Bare or wrapped, every tensor comes back bit for bit, strided ones packed."""
    save(wrap(OrderedDict(tensors)), tmp_path / "x")
    assert_same(tmp_path / "x", tensors)


def test_safetensors(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    packed = {name: value.contiguous().clone() for name, value in tensors.items()}
    save_file(packed, tmp_path / "x", metadata={"a": "b"})
    assert_same(tmp_path / "x", packed)
    assert open_checkpoint(tmp_path / "x").metadata == {"a": "b"}


def container(checkpoint: Checkpoint) -> str:
    return checkpoint.files[0].container


def assert_same(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    checkpoint = open_checkpoint(path)
    assert list(checkpoint.tensors) == list(tensors) or container(checkpoint) == "safetensors"
    for name, value in tensors.items():
        read = checkpoint.tensor(name)
        assert read.dtype == value.dtype
        assert torch.equal(read, value)
        assert read.is_contiguous()
        raw = value.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        assert b"".join(checkpoint.chunks(name)) == raw


@pytest.mark.parametrize("name", ["x.safetensors", "x.ckpt", "x.txt"])
def test_the_container_is_told_by_content(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    value = {"a": torch.ones(2)}
    save_zip(value, path)
    assert container(open_checkpoint(path)) == "torch zip"
    save_legacy(value, path)
    assert container(open_checkpoint(path)) == "torch legacy"
    save_file(value, path)
    assert container(open_checkpoint(path)) == "safetensors"


@pytest.mark.parametrize("save", TORCH_CONTAINERS)
def test_training_state_of_2022_is_read_as_inert_records(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning callbacks and numpy scalars, in numpy's old and new spelling, do no harm."""
    save(training_state(monkeypatch), tmp_path / "x")
    monkeypatch.undo()
    before = set(sys.modules)
    checkpoint = open_checkpoint(tmp_path / "x")
    assert list(checkpoint.tensors) == ["weight"]
    assert set(checkpoint.skipped) == {"callbacks", "optimizer_states", "epoch"}
    assert not {name for name in set(sys.modules) - before if "lightning" in name}


def training_state(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What Lightning 1.4 left in a checkpoint, under the names that it used."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    for part in ("pytorch_lightning", "pytorch_lightning.callbacks", name):
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    callback = type("ModelCheckpoint", (), {"__module__": name, "__qualname__": "ModelCheckpoint"})
    sys.modules[name].ModelCheckpoint = callback  # type: ignore[attr-defined]

    class Scalar:
        """Pickles as a numpy scalar does, in the spelling of one numpy or the other."""

        def __init__(self, spelling: str) -> None:
            def scalar(*args: object) -> None:
                raise AssertionError("only named in a pickle, never called")

            scalar.__module__, scalar.__qualname__ = spelling, "scalar"
            stand_in = types.ModuleType(spelling)
            stand_in.scalar = scalar  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, spelling, stand_in)
            self.scalar = scalar

        def __reduce__(self) -> tuple[object, ...]:
            return self.scalar, (np.dtype("float64"), np.float64(0.25).tobytes())

    return {
        "state_dict": {"weight": torch.ones(2)},
        "epoch": 0,
        "callbacks": {
            callback: {
                "best": Scalar("numpy.core.multiarray"),
                "last": Scalar("numpy._core.multiarray"),
            },
            "object": callback(),
        },
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
    }


def pickled_as(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> object:
    """An object of a class that pickles name so, whether or not it is installed."""
    for count in range(1, module.count(".") + 2):
        parent = ".".join(module.split(".")[:count])
        if parent not in sys.modules:
            monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    kind = type(name, (), {"__module__": module, "__qualname__": name})
    monkeypatch.setattr(sys.modules[module], name, kind, raising=False)
    return kind()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("pathlib", "PosixPath"),
        ("pathlib._local", "PosixPath"),  # Python 3.13
        ("pathlib._local", "WindowsPath"),
        ("lightning_lite.utilities.data", "AttributeDict"),
        ("lightning_fabric.utilities.data", "AttributeDict"),
        ("lightning.fabric.utilities.data", "AttributeDict"),
        ("lightning.pytorch.utilities.parsing", "AttributeDict"),
        ("lightning.pytorch.callbacks.model_checkpoint", "ModelCheckpoint"),
        ("lightning.pytorch.callbacks.early_stopping", "EarlyStopping"),
        ("omegaconf.nodes", "EnumNode"),
        ("datetime", "timedelta"),
        ("uuid", "UUID"),
        ("torch.torch_version", "TorchVersion"),
        ("numpy.dtypes", "Float32DType"),
    ],
)
def test_names_of_training_state_under_every_address(
    module: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = pickled_as(monkeypatch, module, name)
    torch.save({"state_dict": {"w": torch.ones(1)}, "settings": {"x": extra}}, tmp_path / "x")
    monkeypatch.undo()
    found = open_checkpoint(tmp_path / "x")
    assert list(found.tensors) == ["w"]
    assert f"{module}.{name}" in found.pickle_globals


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("lightning.pytorch.callbacks.lambda_function", "LambdaCallback"),
        ("pathlib._local", "Path"),
        ("uuid", "uuid_generate"),
        ("numpy.core.multiarray", "fromfile"),
    ],
)
def test_other_names_of_the_same_modules_are_refused(
    module: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = pickled_as(monkeypatch, module, name)
    torch.save({"state_dict": {"w": torch.ones(1)}, "settings": {"x": extra}}, tmp_path / "x")
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=rf"asks for {module}\.{name}"):
        open_checkpoint(tmp_path / "x")


@pytest.mark.parametrize("save", TORCH_CONTAINERS)
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda weights: {"model": weights},
        lambda weights: {"module": weights, "step": 5, "optimizer": {"state": {0: torch.ones(1)}}},
        lambda weights: {"model": {"state_dict": weights}, "epoch": 1},
        lambda weights: {"state_dict": {"model": weights}},
        lambda weights: {"state_dict": weights, "model": {"w": torch.zeros(3)}},
    ],
)
def test_a_state_dict_is_found_under_any_one_key(
    save: Save, wrapped: Callable[[dict[str, torch.Tensor]], object], tmp_path: Path
) -> None:
    save(wrapped({"w": torch.ones(2)}), tmp_path / "x")
    found = open_checkpoint(tmp_path / "x")
    assert {name: info.shape for name, info in found.tensors.items()} == {"w": (2,)}


def test_of_two_state_dicts_none_is_guessed(tmp_path: Path) -> None:
    torch.save({"model": {"w": torch.ones(1)}, "ema": {"w": torch.ones(1)}}, tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"under several keys \(model, ema\)"):
        open_checkpoint(tmp_path / "x")


class Evil:
    """Pickles as a call of ``function`` with ``args``, and then setting ``state`` on the result."""

    def __init__(
        self, function: Callable[..., object], *args: object, state: object = None
    ) -> None:
        self.call = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> tuple[object, ...]:
        return self.call


@pytest.mark.parametrize("save", TORCH_CONTAINERS)
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, "posix.system"), (eval, "__builtin__.eval"), (os.execv, "posix.execv")],
)
@pytest.mark.parametrize("place", ["beside", "inside", "wrapper"])
def test_code_is_refused_by_name_and_never_run(
    save: Save,
    function: Callable[..., object],
    name: str,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evil = Evil(function, b"nothing good")
    value: object = {
        "beside": {"state_dict": {"a": torch.ones(1)}, "z": evil},
        "inside": {"a": torch.ones(1), "z": evil},
        "wrapper": evil,
    }[place]
    save(value, tmp_path / "x")
    imported: list[object] = []
    monkeypatch.setattr(builtins, "__import__", spy(builtins.__import__, imported))
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        open_checkpoint(tmp_path / "x")
    assert not {"os", "posix", "builtins", "__builtin__"} & set(imported)


def spy(original: Callable[..., Any], names: list[object]) -> Callable[..., Any]:
    def record(name: str, *args: Any, **kwargs: Any) -> Any:
        names.append(name)
        return original(name, *args, **kwargs)

    return record


def rezip(path: Path, **changes: bytes | None) -> None:
    """Rewrite a torch zip with members replaced, or left out (None); keys spell / as __."""
    with zipfile.ZipFile(path) as archive:
        members = {m.filename: archive.read(m) for m in archive.infolist()}
    root = next(iter(members)).split("/")[0]
    replaced = {f"{root}/{key.replace('__', '/')}": value for key, value in changes.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, value in (members | replaced).items():
            if value is not None:
                archive.writestr(name, value)


def test_zips_rewritten_by_python_are_read_too(tmp_path: Path) -> None:
    """torch leaves sizes out of its local headers, Python fills them in: both are fine."""
    save_zip({"a": torch.ones(3)}, tmp_path / "x")
    rezip(tmp_path / "x")
    assert_same(tmp_path / "x", {"a": torch.ones(3)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__0": None}, "lacks the storage"),
        ({"data__0": b"1234"}, "has 4 bytes"),
        ({"byteorder": b"big"}, "big-endian"),
        ({"data.pkl": None}, "not one that torch.save writes"),
        ({"data.pkl": b"nonsense"}, "instruction that torch does not write"),
        ({"data.pkl": b""}, "malformed"),
    ],
)
def test_broken_zips_are_refused(
    changes: dict[str, bytes | None], message: str, tmp_path: Path
) -> None:
    save_zip({"a": torch.ones(3)}, tmp_path / "x")
    rezip(tmp_path / "x", **changes)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path / "x")


def test_packed_and_doubled_members_are_refused(tmp_path: Path) -> None:
    save_zip({"a": torch.ones(3)}, tmp_path / "x")
    with zipfile.ZipFile(tmp_path / "x") as archive:
        members = {m.filename: archive.read(m) for m in archive.infolist()}
    with zipfile.ZipFile(tmp_path / "y", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members.items():
            archive.writestr(name, value)
    with pytest.raises(CheckpointError, match="packed or encrypted"):
        open_checkpoint(tmp_path / "y")
    with zipfile.ZipFile(tmp_path / "x", "a") as archive, pytest.warns(match="Duplicate"):
        archive.writestr("x/data.pkl", members["x/data.pkl"])
    with pytest.raises(CheckpointError, match="twice"):
        open_checkpoint(tmp_path / "x")


@pytest.mark.parametrize("save", TORCH_CONTAINERS)
def test_truncated_torch_files_are_refused(save: Save, tmp_path: Path) -> None:
    """Wherever the file is cut, the answer is one clear refusal."""
    save({"a": torch.ones(3), "b": torch.zeros(2)}, tmp_path / "x")
    content = (tmp_path / "x").read_bytes()
    for size in range(0, len(content) - 1, 13):
        (tmp_path / "y").write_bytes(content[:size])
        with pytest.raises(CheckpointError, match=r"^y: "):
            open_checkpoint(tmp_path / "y")


class Storage:
    """Pickles as a reference to a storage of three floats."""


class Pickler(pickle.Pickler):
    def persistent_id(self, value: object) -> object:
        is_storage = isinstance(value, Storage)
        return ("storage", torch.FloatStorage, "0", "cpu", 3) if is_storage else None


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(value)
    return buffer.getvalue()


def rebuild(shape: object, stride: object, offset: object = 0) -> bytes:
    """A state dict's pickle whose one tensor views a storage of three floats as given."""
    arguments = (Storage(), offset, shape, stride, False, None)
    return pickled({"a": Evil(torch._utils._rebuild_tensor_v2, *arguments)})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (rebuild((4,), (1,)), "outside of its storage"),
        (rebuild((2,), (3,)), "outside of its storage"),
        (rebuild((1,), (1,), offset=3), "outside of its storage"),
        (rebuild((10**12,), (0,)), "outside of its storage"),
        (rebuild((2,), (-1,), offset=2), "no count"),
        (rebuild((-1,), (1,)), "no count"),
        (rebuild((1.5,), (1,)), "no count"),
        (rebuild((3,), (1, 1)), "do not match"),
        (rebuild((3,), [1]), "no tuple"),
    ],
)
def test_views_outside_of_their_storage_are_refused(
    data: bytes, message: str, tmp_path: Path
) -> None:
    save_zip({"a": torch.ones(3)}, tmp_path / "x")
    rezip(tmp_path / "x", **{"data.pkl": data})
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path / "x")


def test_the_views_that_are_refused_are_near_ones_that_are_not(tmp_path: Path) -> None:
    """Control: the same pickle with a view that fits is read."""
    save_zip({"a": torch.arange(3.0)}, tmp_path / "x")
    rezip(tmp_path / "x", **{"data.pkl": rebuild((2,), (1,), offset=1)})
    assert_same(tmp_path / "x", {"a": torch.tensor([1.0, 2.0])})


@pytest.mark.parametrize(
    "state",
    [
        [None, -1, (10**9,), (1,)],
        {"offset": -1},
        (None, {"offset": -1}),
        (None, {"__class__": OrderedDict}),
    ],
)
def test_a_pickle_cannot_rewrite_what_was_checked(state: object, tmp_path: Path) -> None:
    """BUILD after REDUCE: a fine tensor whose record the pickle then tries to change."""
    arguments = (Storage(), 0, (3,), (1,), False, None)
    call = Evil(torch._utils._rebuild_tensor_v2, *arguments, state=state)
    save_zip({"a": torch.ones(3)}, tmp_path / "x")
    rezip(tmp_path / "x", **{"data.pkl": pickled({"a": call})})
    with pytest.raises(CheckpointError, match="tries to change what was made already"):
        open_checkpoint(tmp_path / "x")


def test_attributes_of_dicts_are_ignored(tmp_path: Path) -> None:
    """torch keeps _metadata on its state dicts; an attribute named like a method does no harm."""
    call = Evil(OrderedDict, state={"_metadata": {}, "get": 5, "items": 5})
    save_zip({"a": torch.ones(3)}, tmp_path / "x")
    rezip(tmp_path / "x", **{"data.pkl": pickled(call)})
    assert open_checkpoint(tmp_path / "x").tensors == {}
    model = torch.nn.Linear(2, 1)
    save_zip(model.state_dict(), tmp_path / "y")
    assert_same(tmp_path / "y", model.state_dict())


def test_odd_keys_are_named_harmlessly(tmp_path: Path) -> None:
    """Keys that are no text, and a text that would colour the terminal."""
    odd = {"\x1b[31mred": 1, 7: 2, None: 3, 1.5: 4, "x" * 500: 5, "a": torch.ones(1)}
    save_zip(odd, tmp_path / "x")
    checkpoint = open_checkpoint(tmp_path / "x")
    assert set(checkpoint.skipped) == {
        "\\x1b[31mred",
        "(an entry whose key is a int: 7)",
        "(an entry whose key is a NoneType: None)",
        "(an entry whose key is a float: 1.5)",
        "x" * 100 + "…",
    }
    assert list(checkpoint.tensors) == ["a"]


def safetensors_bytes(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(start: int, end: int, dtype: str = "F32", shape: object = (1,)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (safetensors_bytes({"a": entry(0, 4)}), "end at byte"),
        (safetensors_bytes({"a": entry(0, 4)}, bytes(5)), "end at byte"),
        (
            safetensors_bytes({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12)),
            "no tensor or to two",
        ),
        (safetensors_bytes({"a": entry(0, 4), "b": entry(0, 4)}, bytes(4)), "no tensor or to two"),
        (safetensors_bytes({"a": entry(0, 8)}, bytes(8)), "wrongly"),
        (safetensors_bytes({"a": entry(0, 4, dtype="F33")}, bytes(4)), "wrongly"),
        (safetensors_bytes({"a": entry(0, 4, shape=[-1, -1])}, bytes(4)), "wrongly"),
        (safetensors_bytes({"a": entry(0, 4, shape="1")}, bytes(4)), "wrongly"),
        (safetensors_bytes({"a": 5}), "wrongly"),
        (safetensors_bytes({"__metadata__": {"a": 5}}), "not text"),
        (safetensors_bytes(b'{"a": {}, "a": {}}'), "twice"),
        (safetensors_bytes(b"{nonsense"), "broken"),
        (safetensors_bytes(b'{"__metadata__": {"a": "\\ud800"}}'), "broken"),
        (safetensors_bytes('{"a": 1}'.encode("utf-16-le")), "broken"),
        (safetensors_bytes(b"{" + b'"a":{' * 5000), "broken"),
    ],
)
def test_broken_safetensors_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path / "x")


@pytest.mark.slow
@pytest.mark.parametrize(("more", "message"), [(0, None), (1, "more than the 100000000")])
def test_headers_are_read_up_to_the_limit_of_the_library(
    more: int, message: str | None, tmp_path: Path
) -> None:
    """Real ones reach 9 MB: a workflow, a picture."""
    note = "[{" * 5_000_000
    header = safetensors_bytes({"__metadata__": {"workflow": note}, "a": entry(0, 4)})[8:]
    header += b" " * (100_000_000 + more - len(header))
    (tmp_path / "x").write_bytes(safetensors_bytes(header, struct.pack("<f", 1)))
    if message:
        with pytest.raises(CheckpointError, match=message):
            open_checkpoint(tmp_path / "x")
        with pytest.raises(SafetensorError, match=r"(?i)too ?large"):
            load_file(tmp_path / "x")
    else:
        checkpoint = open_checkpoint(tmp_path / "x")
        assert checkpoint.metadata == {"workflow": note}
        assert torch.equal(checkpoint.tensor("a"), load_file(tmp_path / "x")["a"])


def test_tensors_come_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    """A header in another order is the same file, as for the safetensors library."""
    header = {"c": entry(8, 12), "a": entry(0, 4), "e": entry(8, 8, shape=(0,)), "b": entry(4, 8)}
    (tmp_path / "x").write_bytes(safetensors_bytes(header, struct.pack("<3f", 1, 2, 3)))
    checkpoint = open_checkpoint(tmp_path / "x")
    assert list(checkpoint.tensors) == ["a", "b", "e", "c"]
    for name, value in load_file(tmp_path / "x").items():
        assert torch.equal(checkpoint.tensor(name), value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"hello", "neither"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
        (pickle.dumps({"a": 1}), "not one that torch.save writes"),
        (bytes(257) + b"ustar" + bytes(250), "tar archive"),
    ],
)
def test_other_files_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(tmp_path / "x")


def test_folders_and_pipes_are_refused_without_hanging(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="no diffusers model"):
        open_checkpoint(tmp_path)
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(CheckpointError, match="not a regular file"):
            open_checkpoint(path)
