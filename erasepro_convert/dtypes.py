"""The one table of element types: safetensors' code, bytes an element, torch's name, infinity.

Infinity is its bits, the sign left out; what is above them is NaN (F8_E4M3 has NaN alone).
"""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

_TABLE = {
    "F64": (8, "float64", 0x7FF0_0000_0000_0000),
    "F32": (4, "float32", 0x7F80_0000),
    "F16": (2, "float16", 0x7C00),
    "BF16": (2, "bfloat16", 0x7F80),
    "I64": (8, "int64", None),
    "I32": (4, "int32", None),
    "I16": (2, "int16", None),
    "I8": (1, "int8", None),
    "U8": (1, "uint8", None),
    "BOOL": (1, "bool", None),
    "F8_E4M3": (1, "float8_e4m3fn", 0x7F),
    "F8_E5M2": (1, "float8_e5m2", 0x7C),
}
ITEM_SIZES = {code: size for code, (size, _, _) in _TABLE.items()}
"""Bytes an element, by safetensors' code."""

FLOATING = ("F64", "F32", "F16", "BF16")
"""The types in which weights can be edited."""

Option = Literal["fp16", "bf16", "fp32"]
OPTIONS: dict[Option, str] = {"fp16": "F16", "bf16": "BF16", "fp32": "F32"}
"""What ``--dtype`` accepts, and its code."""


def torch_dtype(code: str) -> "torch.dtype":
    """The torch dtype of a safetensors code; torch is imported only when one is asked for."""
    import torch

    dtype = getattr(torch, _TABLE[code][1])
    assert isinstance(dtype, torch.dtype)
    return dtype


def dtype_code(dtype: "torch.dtype") -> str:
    """The safetensors code of a torch dtype."""
    return next(code for code, (_, name, _) in _TABLE.items() if str(dtype) == f"torch.{name}")


def is_finite(code: str, values: memoryview) -> bool:
    """Whether packed values hold neither NaN nor infinity.

    Looks at the bits as integers, which needs no torch and no temporary copy: positive values that
    are not finite are the largest signed integers, negative ones the largest unsigned.
    """
    size, _, infinity = _TABLE[code]
    if infinity is None or not values.nbytes:
        return True
    import numpy as np

    signed = np.frombuffer(values, f"<i{size}")
    sign = 1 << (8 * size - 1)
    return int(signed.max()) < infinity and int(signed.view(f"<u{size}").max()) < infinity | sign


def packed(tensor: "torch.Tensor") -> memoryview:
    """The bytes of a tensor's values in row-major order, without a copy if they lie so already."""
    import torch

    return tensor.contiguous().flatten().view(torch.uint8).numpy().data
