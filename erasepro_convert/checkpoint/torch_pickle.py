"""Read what a torch pickle describes: tensors become records, all else inert stand-ins.

Tensors are never built: their records say where they lie in the file.  Globals that real
checkpoints are known to name are ignored; a file that names any other global is refused.
"""

from dataclasses import dataclass

from erasepro_convert.checkpoint.pickle_machine import PickleMachine
from erasepro_convert.checkpoint.pickle_values import GlobalName, Opaque, add_items
from erasepro_convert.checkpoint.tensor_info import (
    DIMENSIONS_LIMIT,
    StorageRecord,
    TensorRecord,
    is_count,
)
from erasepro_convert.checkpoint.training_state_names import TRAINING_STATE_NAMES
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.printable import printable

STORAGES = {
    GlobalName("torch", "DoubleStorage"): "F64",
    GlobalName("torch", "FloatStorage"): "F32",
    GlobalName("torch", "HalfStorage"): "F16",
    GlobalName("torch", "BFloat16Storage"): "BF16",
    GlobalName("torch", "LongStorage"): "I64",
    GlobalName("torch", "IntStorage"): "I32",
    GlobalName("torch", "ShortStorage"): "I16",
    GlobalName("torch", "CharStorage"): "I8",
    GlobalName("torch", "ByteStorage"): "U8",
    GlobalName("torch", "BoolStorage"): "BOOL",
    GlobalName("torch", "ComplexFloatStorage"): "C64",
    GlobalName("torch", "ComplexDoubleStorage"): "C128",
    GlobalName("torch", "QInt8Storage"): "QI8",
    GlobalName("torch", "QUInt8Storage"): "QU8",
    GlobalName("torch", "QInt32Storage"): "QI32",
    GlobalName("torch.storage", "UntypedStorage"): "U8",
}
"""torch's storage classes, and the code of each one's dtype."""

DTYPES = {
    GlobalName("torch", "float8_e4m3fn"): "F8_E4M3",
    GlobalName("torch", "float8_e5m2"): "F8_E5M2",
    GlobalName("torch", "float8_e4m3fnuz"): "F8_E4M3FNUZ",
    GlobalName("torch", "float8_e5m2fnuz"): "F8_E5M2FNUZ",
    GlobalName("torch", "float8_e8m0fnu"): "F8_E8M0",
    GlobalName("torch", "float4_e2m1fn_x2"): "F4_X2",
    GlobalName("torch", "complex32"): "C32",
    GlobalName("torch", "uint16"): "U16",
    GlobalName("torch", "uint32"): "U32",
    GlobalName("torch", "uint64"): "U64",
}
"""torch dtypes without a storage class of their own."""

ORDERED_DICT = GlobalName("collections", "OrderedDict")
REBUILD_FUNCTIONS = {
    GlobalName("torch._utils", name)
    for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_qtensor")
}
REBUILD_V3 = GlobalName("torch._utils", "_rebuild_tensor_v3")
REBUILD_WITH_ATTRIBUTES = GlobalName("torch._tensor", "_rebuild_from_type_v2")
PARAMETER_FUNCTIONS = {
    GlobalName("torch._utils", name)
    for name in ("_rebuild_parameter", "_rebuild_parameter_with_state")
}
TENSOR_TYPES = {GlobalName("torch", "Tensor"), GlobalName("torch.nn.parameter", "Parameter")}
QUANTISERS = {
    GlobalName("torch", f"per_{what}")
    for what in ("tensor_affine", "channel_affine", "channel_affine_float_qparams")
}
ARRAY_FUNCTIONS = {
    GlobalName(f"numpy.{core}.{module}", name)
    for core in ("core", "_core")
    for module, name in (("multiarray", "_reconstruct"), ("numeric", "_frombuffer"))
}
"""Functions that make a numpy array, in pickle protocols up to 4 and in 5."""
PAIRS_LIMIT = 1_000_000

KNOWN_NAMES = {
    *(*STORAGES, *DTYPES, ORDERED_DICT, *REBUILD_FUNCTIONS, REBUILD_V3),
    *(
        REBUILD_WITH_ATTRIBUTES,
        *PARAMETER_FUNCTIONS,
        *TENSOR_TYPES,
        *QUANTISERS,
        *ARRAY_FUNCTIONS,
        *TRAINING_STATE_NAMES,
    ),
}

UNSUPPORTED_FORMS = (
    # (how a name begins, what a file that asks for it holds, what to do)
    ("torch.nn.modules.", "whole modules", "save their state_dict()"),
    ("torch._utils._rebuild_sparse_tensor", "sparse tensors", "save what to_dense() gives"),
    ("torch._utils._rebuild_nested_tensor", "nested tensors", "save each by itself"),
    ("torch._utils._rebuild_meta_tensor", "tensors without values", "save loaded weights"),
    ("torch._utils._rebuild_wrapper_subclass", "tensors without values", "save loaded weights"),
    ("torch._utils._rebuild_device_tensor", "tensors of another device", "save what cpu() gives"),
    ("torch.storage._load_from_bytes", "pickles within the pickle", "save tensors with torch.save"),
)
"""torch's own forms that are not read; a file with one is refused with this advice."""


@dataclass(frozen=True)
class Unpickled:
    """A pickle's content: its root object, storages by key, the globals it names, its end."""

    root: object
    storages: dict[str, StorageRecord]
    pickle_globals: tuple[str, ...]
    end: int


def unpickle(data: bytes | bytearray, start: int = 0) -> Unpickled:
    """Read the pickle that starts at ``start``; nothing that it names is imported.

    Raises CheckpointError for a malformed pickle, and for one that names an unknown global.
    """
    description = _Description()
    machine = PickleMachine(
        data, start, description.call, description.load_storage, description.note_global
    )
    try:
        root = machine.run()
    except CheckpointError:
        description.require_known()  # an unknown global is the more telling of two reasons
        raise
    description.require_known()
    if description.arrays and not description.storages:
        raise CheckpointError(
            "its pickle holds numpy arrays and no torch tensor: turn them into tensors "
            "(torch.from_numpy) and save these"
        )
    names = tuple(sorted(map(str, description.named)))
    return Unpickled(root, description.storages, names, machine.end)


class _Description:
    """Gives meaning to the globals, calls and references that the pickle machine meets."""

    def __init__(self) -> None:
        self.storages: dict[str, StorageRecord] = {}
        self.named: dict[GlobalName, None] = {}
        self.arrays = False
        self._pairs = 0

    def require_known(self) -> None:
        unknown = sorted(str(name) for name in self.named if name not in KNOWN_NAMES)
        if unknown:
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            raise CheckpointError(
                f"its pickle asks for {', '.join(unknown[:5])}{more}, which no Stable Diffusion "
                f"checkpoint needs; nothing of it was run{_form_advice(unknown)}"
            )

    def note_global(self, named: GlobalName) -> GlobalName:
        self.named[named] = None
        return named

    def call(self, function: GlobalName, arguments: tuple[object, ...]) -> object:
        self.arrays |= function in ARRAY_FUNCTIONS
        if function in REBUILD_FUNCTIONS:
            return _tensor(arguments, None, arguments[6:])
        if function == REBUILD_V3:
            return _tensor(arguments, arguments[6] if len(arguments) > 6 else None, arguments[7:])
        if function in PARAMETER_FUNCTIONS and arguments:
            _require_no_tensors(*arguments[3:])
            return arguments[0]
        match arguments:
            case (GlobalName() as inner, GlobalName() as kind, tuple() as given, attributes) if (
                function == REBUILD_WITH_ATTRIBUTES != inner and kind in TENSOR_TYPES
            ):
                _require_no_tensors(attributes)
                return self.call(inner, given)
        if function == ORDERED_DICT:
            self._bound_pairs(arguments)
            return _ordered_dict(arguments)
        return Opaque()

    def _bound_pairs(self, arguments: tuple[object, ...]) -> None:
        """Limit the pairs that become dicts: a pickle can make a dict of one list many times."""
        if arguments and type(arguments[0]) is list:
            self._pairs += len(arguments[0])
        if self._pairs > PAIRS_LIMIT:
            raise CheckpointError(f"its pickle makes dicts of pairs, more than {PAIRS_LIMIT}")

    def load_storage(self, reference: object) -> StorageRecord:
        match reference:
            case ("storage", GlobalName() as kind, str() as key, _, int() as numel, *rest) if (
                kind in STORAGES and is_count(numel) and rest in ([], [None])
            ):
                storage = StorageRecord(key, STORAGES[kind], numel)
                if self.storages.setdefault(key, storage) != storage:
                    raise CheckpointError(
                        f"its pickle describes storage {printable(key, 100)} in two ways"
                    )
                return storage
        raise CheckpointError("its pickle refers to data in a form that torch does not write")


def _form_advice(names: list[str]) -> str:
    """Return the advice for a file with an unsupported form of torch's own, or nothing."""
    for start, what, advice in UNSUPPORTED_FORMS:
        if any(name.startswith(start) for name in names):
            return f". It holds {what}: {advice}"
    return ""


def _require_no_tensors(*attributes: object) -> None:
    """Refuse attributes that are tensors: one called ``data`` would replace the values.

    Attributes come as a dict, or as a tuple of two where a class has slots.
    """
    for part in attributes:
        for state in part if type(part) is tuple else (part,):
            if type(state) is dict and any(type(v) is TensorRecord for v in state.values()):
                raise CheckpointError(
                    "its pickle gives a tensor attributes that are tensors: save a state dict of "
                    "plain tensors"
                )


def _tensor(arguments: tuple[object, ...], kind: object, marks: tuple[object, ...]) -> TensorRecord:
    if any(marks):  # torch conjugates or negates the values when it reads them
        raise CheckpointError(
            "its pickle holds a tensor whose values are to be conjugated or negated: save what "
            "resolve_conj() and resolve_neg() give"
        )
    storage, offset, shape, stride = (*arguments[:4], None, None, None, None)[:4]
    if not isinstance(storage, StorageRecord):
        raise CheckpointError("its pickle builds a tensor from something that is no storage")
    sizes, steps = _counts(shape), _counts(stride)
    if len(sizes) != len(steps):
        raise CheckpointError("its pickle gives a tensor a shape and strides that do not match")
    dtype = storage.dtype
    if kind is not None:
        if type(kind) is not GlobalName or kind not in DTYPES:
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
        add_items(made, pairs)
    return made
