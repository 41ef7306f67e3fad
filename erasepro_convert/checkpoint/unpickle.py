"""What a torch pickle describes: tensors as records, all else as inert stand-ins.

Tensors are never built: they become places in the file.  Names that checkpoints of the wild are
known to hold are passed over; any other name refuses the file.
"""

from dataclasses import dataclass

from erasepro_convert.checkpoint.machine import Machine, Named, Opaque, put
from erasepro_convert.checkpoint.names import printable
from erasepro_convert.checkpoint.tensors import (
    DIMENSIONS_LIMIT,
    StorageRecord,
    TensorRecord,
    is_count,
)
from erasepro_convert.checkpoint.training_state import HARMLESS
from erasepro_convert.errors import CheckpointError

STORAGES = {
    Named("torch", "DoubleStorage"): "F64",
    Named("torch", "FloatStorage"): "F32",
    Named("torch", "HalfStorage"): "F16",
    Named("torch", "BFloat16Storage"): "BF16",
    Named("torch", "LongStorage"): "I64",
    Named("torch", "IntStorage"): "I32",
    Named("torch", "ShortStorage"): "I16",
    Named("torch", "CharStorage"): "I8",
    Named("torch", "ByteStorage"): "U8",
    Named("torch", "BoolStorage"): "BOOL",
    Named("torch.storage", "UntypedStorage"): "U8",
}
"""torch's storage classes, and safetensors' code of their dtype."""

DTYPES = {
    Named("torch", "float8_e4m3fn"): "F8_E4M3",
    Named("torch", "float8_e5m2"): "F8_E5M2",
}
"""Types that torch has no storage class for."""

ORDERED_DICT = Named("collections", "OrderedDict")
REBUILD = {Named("torch._utils", name) for name in ("_rebuild_tensor", "_rebuild_tensor_v2")}
REBUILD_V3 = Named("torch._utils", "_rebuild_tensor_v3")
PARAMETER = Named("torch._utils", "_rebuild_parameter")
PAIRS_LIMIT = 1_000_000

KNOWN = {*STORAGES, *DTYPES, ORDERED_DICT, *REBUILD, REBUILD_V3, PARAMETER, *HARMLESS}


@dataclass(frozen=True)
class Unpickled:
    """A pickle's content: its root, storages by key, the names it asks for, its end."""

    root: object
    storages: dict[str, StorageRecord]
    asks_for: tuple[str, ...]
    end: int


def unpickle(data: bytes | bytearray, start: int = 0) -> Unpickled:
    """Read the pickle that starts at ``start``; nothing that it names is imported.

    Raises CheckpointError for a malformed pickle, and for one that asks for an unknown name.
    """
    description = _Description()
    machine = Machine(data, start, description.call, description.refer, description.name)
    try:
        root = machine.run()
    except CheckpointError:
        description.require_known()  # the more telling of two reasons
        raise
    description.require_known()
    names = tuple(sorted(map(str, description.named)))
    return Unpickled(root, description.storages, names, machine.end)


class _Description:
    """What the machine's calls and references mean."""

    def __init__(self) -> None:
        self.storages: dict[str, StorageRecord] = {}
        self.named: dict[Named, None] = {}
        self._pairs = 0

    def require_known(self) -> None:
        unknown = sorted(str(name) for name in self.named if name not in KNOWN)
        if unknown:
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            raise CheckpointError(
                f"its pickle asks for {', '.join(unknown[:5])}{more}, which no Stable Diffusion "
                "checkpoint needs; nothing of it was run"
            )

    def name(self, named: Named) -> Named:
        self.named[named] = None
        return named

    def call(self, function: Named, arguments: tuple[object, ...]) -> object:
        if function in REBUILD:
            return _tensor(arguments, None)
        if function == REBUILD_V3:
            return _tensor(arguments, arguments[6] if len(arguments) > 6 else None)
        if function == PARAMETER and arguments:
            return arguments[0]
        if function == ORDERED_DICT:
            self._bound_pairs(arguments)
            return _ordered_dict(arguments)
        return Opaque()

    def _bound_pairs(self, arguments: tuple[object, ...]) -> None:
        """One list could be made a dict again and again, at four instructions each."""
        if arguments and type(arguments[0]) is list:
            self._pairs += len(arguments[0])
        if self._pairs > PAIRS_LIMIT:
            raise CheckpointError(f"its pickle makes dicts of pairs, more than {PAIRS_LIMIT}")

    def refer(self, reference: object) -> StorageRecord:
        match reference:
            case ("storage", Named() as kind, str() as key, _, int() as numel, *rest) if (
                kind in STORAGES and is_count(numel) and rest in ([], [None])
            ):
                storage = StorageRecord(key, STORAGES[kind], numel)
                if self.storages.setdefault(key, storage) != storage:
                    raise CheckpointError(
                        f"its pickle describes storage {printable(key, 100)} in two ways"
                    )
                return storage
        raise CheckpointError("its pickle refers to data in a form that torch does not write")


def _tensor(arguments: tuple[object, ...], kind: object) -> TensorRecord:
    storage, offset, shape, stride = (*arguments[:4], None, None, None, None)[:4]
    if not isinstance(storage, StorageRecord):
        raise CheckpointError("its pickle builds a tensor from something that is no storage")
    sizes, steps = _counts(shape), _counts(stride)
    if len(sizes) != len(steps):
        raise CheckpointError("its pickle gives a tensor a shape and strides that do not match")
    dtype = storage.dtype
    if kind is not None:
        if type(kind) is not Named or kind not in DTYPES:
            raise CheckpointError("its pickle gives a tensor a type that no checkpoint has")
        dtype = DTYPES[kind]
    return TensorRecord(storage, dtype, _count(offset), sizes, steps)


def _count(value: object) -> int:
    if not is_count(value):
        raise CheckpointError("its pickle gives a tensor a size, stride or offset that is no count")
    return value


def _counts(value: object) -> tuple[int, ...]:
    if type(value) is not tuple:
        raise CheckpointError("its pickle gives a tensor a shape or strides that are no tuple")
    if len(value) > DIMENSIONS_LIMIT:
        raise CheckpointError(f"its pickle gives a tensor {len(value)} dimensions")
    return tuple(_count(part) for part in value)


def _ordered_dict(arguments: tuple[object, ...]) -> dict[object, object]:
    """An OrderedDict is made empty and filled later, or (by Python 2) made of a list of pairs."""
    made: dict[object, object] = {}
    if arguments:
        pairs = arguments[0]
        if type(pairs) is not list or not all(
            type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs
        ):
            raise CheckpointError("its pickle makes a dict of something that is no list of pairs")
        put(made, pairs)
    return made
