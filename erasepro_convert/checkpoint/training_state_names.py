"""Globals that the training state of real checkpoints names; they are ignored, never imported.

What they would build is not read, so a listed name can do nothing; a name that is not listed makes
the file refused.  Names that moved between packages are listed under each package.
"""

from collections.abc import Iterator

from erasepro_convert.checkpoint.pickle_values import GlobalName

Modules = tuple[str, ...]
"""The modules in which the same names are found, in one version of a library or another."""

LIGHTNING = ("pytorch_lightning", "lightning.pytorch")
FABRIC = ("lightning_lite", "lightning_fabric", "lightning.fabric")
"""Names of the part of pytorch_lightning that was split off in 1.8."""
NUMPY = ("numpy.core", "numpy._core")
"""Names of the package before and since NumPy 2."""


def _in(roots: Modules, module: str) -> Modules:
    return tuple(f"{root}.{module}" for root in roots)


NAMES_BY_MODULES: tuple[tuple[Modules, str], ...] = (
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


def _names() -> Iterator[GlobalName]:
    for modules, names in NAMES_BY_MODULES:
        for module in modules:
            yield from (GlobalName(module, name) for name in names.split())


TRAINING_STATE_NAMES = frozenset(_names())
