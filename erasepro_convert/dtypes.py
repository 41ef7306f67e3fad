"""The one table of element types: safetensors' code, bytes an element, torch's name."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

_TABLE = {
    "F64": (8, "float64"),
    "F32": (4, "float32"),
    "F16": (2, "float16"),
    "BF16": (2, "bfloat16"),
    "I64": (8, "int64"),
    "I32": (4, "int32"),
    "I16": (2, "int16"),
    "I8": (1, "int8"),
    "U8": (1, "uint8"),
    "BOOL": (1, "bool"),
    "F8_E4M3": (1, "float8_e4m3fn"),
    "F8_E5M2": (1, "float8_e5m2"),
}
ITEM_SIZES = {code: size for code, (size, _) in _TABLE.items()}
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
    return next(code for code, (_, name) in _TABLE.items() if str(dtype) == f"torch.{name}")


def packed(tensor: "torch.Tensor") -> memoryview:
    """The bytes of a tensor's values in row-major order, without a copy if they lie so already."""
    import torch

    return tensor.contiguous().flatten().view(torch.uint8).numpy().data
