"""Names that the training state of real checkpoints holds: passed over, and never imported.

What they would build is not looked at, so being listed gives a name no power; whatever is not
listed refuses the file.  A family that moved between packages is listed under each address.
"""

from collections.abc import Iterator

from erasepro_convert.checkpoint.pickle_machine import Named

Address = tuple[str, ...]
"""The modules under which one family of names is written."""

LIGHTNING = ("pytorch_lightning", "lightning.pytorch")
FABRIC = ("lightning_lite", "lightning_fabric", "lightning.fabric")
"""What pytorch_lightning has been called since 1.8, and its smaller half."""
NUMPY = ("numpy.core", "numpy._core")
"""Before and since NumPy 2."""


def _in(roots: Address, module: str) -> Address:
    return tuple(f"{root}.{module}" for root in roots)


FAMILIES: tuple[tuple[Address, str], ...] = (
    # Python: values, and the containers that hold settings.
    (
        ("builtins", "__builtin__"),
        "bool bytearray bytes complex dict float frozenset int list long object range set slice "
        "str tuple unicode",
    ),
    (("copyreg", "copy_reg"), "_reconstructor"),
    (("_codecs",), "encode"),
    (("argparse",), "Namespace"),
    (("types",), "SimpleNamespace"),
    (("collections",), "Counter defaultdict deque"),
    (("datetime",), "date datetime time timedelta timezone"),
    (("decimal",), "Decimal"),
    (("fractions",), "Fraction"),
    (("pathlib", "pathlib._local"), "PosixPath PurePosixPath PureWindowsPath WindowsPath"),
    (("typing",), "Any Dict List Optional Tuple Union"),
    (("uuid",), "SafeUUID UUID"),
    # NumPy: scalars, arrays, the state of random generators.
    (_in(NUMPY, "multiarray"), "_reconstruct scalar"),
    (_in(NUMPY, "numeric"), "_frombuffer"),
    (
        ("numpy",),
        "bool_ dtype float16 float32 float64 int16 int32 int64 int8 ndarray str_ uint16 uint32 "
        "uint64 uint8",
    ),
    (
        ("numpy.dtypes",),
        "BoolDType Float16DType Float32DType Float64DType Int16DType Int32DType Int64DType "
        "Int8DType StrDType UInt16DType UInt32DType UInt64DType UInt8DType",
    ),
    (("numpy.random._pickle",), "__bit_generator_ctor __generator_ctor __randomstate_ctor"),
    (("numpy.random._mt19937",), "MT19937"),
    (("numpy.random._pcg64",), "PCG64"),
    (("numpy.random.bit_generator",), "SeedSequence"),
    # torch: what settings say of devices and types.
    (
        ("torch",),
        "Size bfloat16 bool device float16 float32 float64 int16 int32 int64 int8 uint8",
    ),
    (("torch.torch_version",), "TorchVersion"),
    # Configurations.
    (("omegaconf.base",), "ContainerMetadata Metadata SCMode UnionNode"),
    (("omegaconf.dictconfig",), "DictConfig"),
    (("omegaconf.listconfig",), "ListConfig"),
    (
        ("omegaconf.nodes",),
        "AnyNode BooleanNode BytesNode EnumNode FloatNode IntegerNode InterpolationResultNode "
        "PathNode StringNode",
    ),
    # Lightning: callbacks under their classes, hyperparameters.
    (_in(LIGHTNING, "callbacks.early_stopping"), "EarlyStopping"),
    (_in(LIGHTNING, "callbacks.lr_monitor"), "LearningRateMonitor"),
    (_in(LIGHTNING, "callbacks.model_checkpoint"), "ModelCheckpoint"),
    (_in(LIGHTNING, "callbacks.timer"), "Timer"),
    (_in(LIGHTNING, "utilities.parsing"), "AttributeDict"),
    (_in(FABRIC, "utilities.data"), "AttributeDict"),
)


def _names() -> Iterator[Named]:
    for modules, names in FAMILIES:
        for module in modules:
            yield from (Named(module, name) for name in names.split())


HARMLESS = frozenset(_names())
