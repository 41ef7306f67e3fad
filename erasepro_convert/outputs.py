"""What is written for each tensor of the output: an edit, a copy, or a copy in another type."""

import math
from collections.abc import Callable
from functools import partial

import safetensors
import torch

from erasepro_convert.checkpoint import Checkpoint
from erasepro_convert.dtypes import FLOATING, ITEM_SIZES, OPTIONS, Option, packed, torch_dtype
from erasepro_convert.erase import Edit
from erasepro_convert.errors import LimitError
from erasepro_convert.layout import Layout
from erasepro_convert.writer import OutputTensor


def output_tensors(
    checkpoint: Checkpoint, layout: Layout, edits: dict[str, Edit], option: Option | None
) -> list[OutputTensor]:
    """Every tensor to write, each with the way to get its bytes when its turn comes.

    ``option`` is a value of ``--dtype``.  Getting the bytes raises LimitError where a value does
    not fit into the type asked for.
    """
    tensors = []
    for name, old in layout.source.items():
        info = checkpoint.tensors[old]
        dtype = info.dtype
        if option and dtype in FLOATING:
            dtype = OPTIONS[option]
        data: Callable[[], memoryview]
        if name in edits:
            data = partial(packed, edits[name].weight)
        elif dtype == info.dtype:
            data = partial(checkpoint.bytes, old)
        else:
            data = partial(_cast, checkpoint, old, dtype)
        nbytes = math.prod(info.shape) * ITEM_SIZES[dtype]
        tensors.append(OutputTensor(name, dtype, info.shape, nbytes, data))
    return tensors


def _cast(checkpoint: Checkpoint, name: str, dtype: str) -> memoryview:
    values = checkpoint.tensor(name)
    cast = values.to(torch_dtype(dtype))
    # aminmax needs no temporary copy, which isinf does: the largest tensor has 150 MB.
    if torch.isinf(torch.stack(torch.aminmax(cast))).any() and torch.isfinite(values).all():
        raise LimitError(f"{name} has values too large for {dtype}; use --dtype bf16 or fp32")
    return packed(cast)


def require_readable(path: str, names: set[str]) -> None:
    """Have the reference implementation open what we wrote before it takes anything's place."""
    with safetensors.safe_open(path, framework="pt") as file:
        found = set(file.keys())
    if found != names:
        raise RuntimeError(f"the safetensors library reads {len(found)} of {len(names)} tensors")
