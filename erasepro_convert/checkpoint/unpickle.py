"""Read a torch pickle without running anything that it names.

``pickle`` executes whatever callable a file asks for.  Here ``find_class`` never imports: each
known name gets an inert record of ours, and any other name refuses the file.  A pickle can also set
attributes on whatever it was given: the records have none to set, and are made anew for each load.
"""

import pickle
from dataclasses import dataclass
from typing import Any, Protocol

from erasepro_convert.checkpoint.tensors import StorageRecord, TensorRecord, unchangeable
from erasepro_convert.errors import CheckpointError

STORAGES = {
    ("torch", "DoubleStorage"): "F64",
    ("torch", "FloatStorage"): "F32",
    ("torch", "HalfStorage"): "F16",
    ("torch", "BFloat16Storage"): "BF16",
    ("torch", "LongStorage"): "I64",
    ("torch", "IntStorage"): "I32",
    ("torch", "ShortStorage"): "I16",
    ("torch", "CharStorage"): "I8",
    ("torch", "ByteStorage"): "U8",
    ("torch", "BoolStorage"): "BOOL",
}
"""Global names of torch's typed storages, and safetensors' code of their dtype."""

STUBS = frozenset(
    {
        ("_codecs", "encode"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("pathlib", "PosixPath"),
        ("pytorch_lightning.callbacks.early_stopping", "EarlyStopping"),
        ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
        ("torch", "Size"),
        ("torch", "device"),
    }
)
"""Harmless names of training state in checkpoints of 2022 and later; their content is not read."""


class _Rebuild:
    """Stands for ``torch._utils._rebuild_tensor_v2``: describes the tensor instead of making it."""

    __slots__ = ()

    def __call__(
        self, storage: object, offset: object, shape: object, stride: object, *rest: object
    ) -> TensorRecord:
        if not isinstance(storage, StorageRecord):
            raise CheckpointError("its pickle builds a tensor from something that is no storage")
        sizes, steps = _counts(shape), _counts(stride)
        if len(sizes) != len(steps):
            raise CheckpointError("its pickle gives a tensor a shape and strides that do not match")
        return TensorRecord(storage, _count(offset), sizes, steps)


class _Parameter:
    """Stands for ``torch._utils._rebuild_parameter``: the tensor inside."""

    __slots__ = ()

    def __call__(self, data: object, *rest: object) -> object:
        return data


@unchangeable
@dataclass(frozen=True, slots=True)
class _StorageType:
    """Stands for a storage class such as ``torch.HalfStorage``."""

    dtype: str


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise CheckpointError("its pickle gives a tensor a size, stride or offset that is no count")
    return value


def _counts(value: object) -> tuple[int, ...]:
    if type(value) is not tuple:
        raise CheckpointError("its pickle gives a tensor a shape or strides that are no tuple")
    return tuple(_count(part) for part in value)


class Readable(Protocol):
    """A byte stream as ``pickle`` reads it; one that does not read ahead stays in step."""

    def read(self, n: int, /) -> bytes:
        """Next ``n`` bytes."""

    def readline(self) -> bytes:
        """Bytes up to and including the next newline."""


@dataclass(frozen=True)
class Unpickled:
    """What a pickle describes, and the storages it refers to, by key."""

    root: Any
    storages: dict[str, StorageRecord]


def unpickle(file: Readable) -> Unpickled:
    """The next pickle of ``file``, with inert records in place of everything that it names.

    Raises CheckpointError for an unknown name or a malformed pickle.
    """
    unpickler = _Unpickler(file, encoding="utf-8")
    try:
        return Unpickled(unpickler.load(), unpickler.storages)
    except CheckpointError:
        raise
    except Exception as error:
        # A malformed pickle can raise nearly anything; all of it means the same to the user.
        problem = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"its pickle is malformed ({problem})") from error


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Readable, *, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self.storages: dict[str, StorageRecord] = {}
        self._inert: dict[tuple[str, str], object] = {}

    def find_class(self, module: str, name: str) -> Any:
        key = (module, name)
        if key not in self._inert:
            self._inert[key] = _inert(key)
        return self._inert[key]

    def persistent_load(self, reference: object) -> StorageRecord:
        match reference:
            case ("storage", _StorageType() as kind, str() as key, _, int() as numel, *rest) if (
                numel >= 0 and rest in ([], [None])
            ):
                storage = StorageRecord(key, kind.dtype, numel)
                if self.storages.setdefault(key, storage) != storage:
                    raise CheckpointError(f"its pickle describes storage {key} in two ways")
                return storage
        raise CheckpointError("its pickle refers to data in a form that torch does not write")


def _inert(key: tuple[str, str]) -> object:
    """The record that stands for global ``key``; never the thing itself."""
    if key in STORAGES:
        return _StorageType(STORAGES[key])
    if key in {("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor")}:
        return _Rebuild()
    if key == ("torch._utils", "_rebuild_parameter"):
        return _Parameter()
    if key == ("collections", "OrderedDict"):
        return type("OrderedDict", (dict,), {"__slots__": (), "__setstate__": _accept})
    if key in STUBS:
        return type(key[1], (), {"__slots__": (), "__init__": _accept, "__setstate__": _accept})
    raise CheckpointError(
        f"its pickle asks for {key[0]}.{key[1]}, which no Stable Diffusion checkpoint needs; "
        "nothing of it was run"
    )


def _accept(self: object, *args: object, **kwargs: object) -> None:
    """Take any arguments and do nothing."""
