"""The one table of element types: safetensors' code, bytes an element, torch's name."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

ITEM_SIZES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
}
FLOATING = ("F64", "F32", "F16", "BF16")
"""The types in which weights can be edited."""

Option = Literal["fp16", "bf16", "fp32"]
OPTIONS: dict[Option, str] = {"fp16": "F16", "bf16": "BF16", "fp32": "F32"}
"""What ``--dtype`` accepts, and its code."""

_TORCH = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}


def torch_dtype(code: str) -> "torch.dtype":
    """The torch dtype of a safetensors code; torch is imported only when one is asked for."""
    import torch

    dtype = getattr(torch, _TORCH[code])
    assert isinstance(dtype, torch.dtype)
    return dtype


def dtype_code(dtype: "torch.dtype") -> str:
    """The safetensors code of a torch dtype."""
    return next(code for code, name in _TORCH.items() if str(dtype) == f"torch.{name}")


def packed(tensor: "torch.Tensor") -> memoryview:
    """The bytes of a tensor's values in row-major order, without a copy if they lie so already."""
    import torch

    return tensor.contiguous().flatten().view(torch.uint8).numpy().data
