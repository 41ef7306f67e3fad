"""The table of element types: safetensors' code, bits per element, torch's name, infinity.

Types that only torch has get codes of this package.  The column for infinity holds its bits without
the sign; larger bit patterns are NaN (F8_E4M3 has NaN and no infinity).  It is None for types whose
values are never checked.
"""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

_TABLE = {
    "F64": (64, "float64", 0x7FF0_0000_0000_0000),
    "F32": (32, "float32", 0x7F80_0000),
    "F16": (16, "float16", 0x7C00),
    "BF16": (16, "bfloat16", 0x7F80),
    "I64": (64, "int64", None),
    "I32": (32, "int32", None),
    "I16": (16, "int16", None),
    "I8": (8, "int8", None),
    "U8": (8, "uint8", None),
    "BOOL": (8, "bool", None),
    "F8_E4M3": (8, "float8_e4m3fn", 0x7F),
    "F8_E5M2": (8, "float8_e5m2", 0x7C),
    "U64": (64, "uint64", None),
    "U32": (32, "uint32", None),
    "U16": (16, "uint16", None),
    "C64": (64, "complex64", None),
    "F8_E4M3FNUZ": (8, "float8_e4m3fnuz", None),
    "F8_E5M2FNUZ": (8, "float8_e5m2fnuz", None),
    "F8_E8M0": (8, "float8_e8m0fnu", None),
    "F6_E2M3": (6, None, None),
    "F6_E3M2": (6, None, None),
    "F4": (4, None, None),
    # Only torch has the types that follow.
    "F4_X2": (8, "float4_e2m1fn_x2", None),
    "C128": (128, "complex128", None),
    "C32": (32, "complex32", None),
    "QI32": (32, "qint32", None),
    "QI8": (8, "qint8", None),
    "QU8": (8, "quint8", None),
}
BITS = {code: bits for code, (bits, _, _) in _TABLE.items()}
"""The number of bits per element, by code."""

SAFETENSORS_DTYPES = frozenset(_TABLE) - {"F4_X2", "C128", "C32", "QI32", "QI8", "QU8"}
"""The types that a safetensors file can hold."""

FLOATING_DTYPES = ("F64", "F32", "F16", "BF16")
"""The types in which weights can be edited."""

SD1_DTYPES = (*FLOATING_DTYPES, "I64", "I32", "I16", "I8", "U8", "BOOL")
"""The types that tensors of Stable Diffusion 1.x have in one checkpoint or another."""

DtypeOption = Literal["fp16", "bf16", "fp32"]
DTYPE_OPTIONS: dict[DtypeOption, str] = {"fp16": "F16", "bf16": "BF16", "fp32": "F32"}
"""The values that ``--dtype`` accepts, and the code of each."""


def torch_dtype(code: str) -> "torch.dtype":
    """Return the torch dtype of a safetensors code.  This call imports torch."""
    import torch

    name = _TABLE[code][1]
    assert name, f"torch has no {code}"
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def option_dtype(option: DtypeOption | None) -> "torch.dtype | None":
    """Return the torch dtype of a value of ``--dtype``; None where it was not given."""
    return torch_dtype(DTYPE_OPTIONS[option]) if option else None


def dtype_code(dtype: "torch.dtype") -> str:
    """Return the safetensors code of a torch dtype."""
    return next(code for code, (_, name, _) in _TABLE.items() if str(dtype) == f"torch.{name}")


def is_finite(code: str, values: memoryview) -> bool:
    """Whether packed values hold neither NaN nor infinity.

    The check compares the bits as integers, which needs neither torch nor a temporary copy:
    positive values that are not finite are the largest signed integers, negative ones the largest
    unsigned integers.
    """
    bits, _, infinity = _TABLE[code]
    if infinity is None or not values.nbytes:
        return True
    import numpy as np

    signed = np.frombuffer(values, f"<i{bits // 8}")
    sign = 1 << (bits - 1)
    unsigned = signed.view(f"<u{bits // 8}")
    return int(signed.max()) < infinity and int(unsigned.max()) < infinity | sign


def packed(tensor: "torch.Tensor") -> memoryview:
    """Return the bytes of a tensor in row-major order; a contiguous tensor is not copied."""
    import torch

    return tensor.contiguous().flatten().view(torch.uint8).numpy().data
