"""The tensors of an output: each an edit, a copy, or a copy in another type."""

import math
from array import array
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from erasepro_convert.errors import LimitError
from erasepro_convert.output.safetensors_writer import OutputTensor
from erasepro_convert.runtime.dtypes import (
    BITS,
    DTYPE_OPTIONS,
    FLOATING_DTYPES,
    DtypeOption,
    is_finite,
    packed,
    torch_dtype,
)
from erasepro_convert.sd1.keys import POSITION_IDS, POSITIONS
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint

if TYPE_CHECKING:
    import torch

Read = Callable[[str], Iterator[memoryview]]
"""Gives a tensor's packed values in pieces, by its name in the input."""


def output_tensors(
    source: SD1Checkpoint,
    read: Read,
    option: DtypeOption | None,
    edits: Mapping[str, Callable[[], "torch.Tensor"]],
) -> list[OutputTensor]:
    """Return every tensor to write, each with the way to get its bytes when its turn comes.

    They are in the order in which ``source`` has them.  ``edits`` gives edited weights by name.
    ``option`` is a value of ``--dtype``.  Getting the bytes raises LimitError where a value does
    not fit into the type asked for.
    """
    checkpoint = source.checkpoint
    files = {id(file): number for number, file in enumerate(checkpoint.files)}

    def place(name: str) -> tuple[int, int]:
        input_name = source.layout.source[name]
        return files[id(checkpoint.owner(input_name))], checkpoint.tensors[input_name].offset

    tensors = []
    for name in sorted(source.layout.source, key=place):
        input_name = source.layout.source[name]
        info = checkpoint.tensors[input_name]
        shape, dtype = source.layout.shapes[name], info.dtype
        stored_as = DTYPE_OPTIONS[option] if option and dtype in FLOATING_DTYPES else dtype
        origin, is_late = None, False
        data: Callable[[], Iterator[memoryview]]
        if name == POSITION_IDS:
            data, stored_as = position_ids, "I64"
        elif name in edits:
            data, is_late = partial(_edit, edits[name]), True
        elif stored_as == dtype:
            data = partial(read, input_name)
            origin = (checkpoint.owner(input_name).file, info.offset) if info.contiguous else None
        else:
            data = partial(_cast, read, input_name, dtype, stored_as)
        nbytes = math.prod(shape) * BITS[stored_as] // 8
        tensors.append(
            OutputTensor(name, stored_as, shape, nbytes, data, (name, shape), origin, is_late)
        )
    return tensors


def _edit(weight: Callable[[], "torch.Tensor"]) -> Iterator[memoryview]:
    yield packed(weight())


def position_ids() -> Iterator[memoryview]:
    """Give the position ids 0 … 76 of every SD1.x model; merges may have damaged a file's own."""
    yield memoryview(array("q", range(POSITIONS))).cast("B")


def _cast(read: Read, name: str, stored: str, asked: str) -> Iterator[memoryview]:
    parts = (_values(chunk, stored) for chunk in read(name))
    for values in parts:
        cast = packed(values.to(torch_dtype(asked)))
        if not is_finite(asked, cast):
            largest = max(float(part.abs().max()) for part in (values, *parts))
            raise LimitError(
                f"{name} has values too large for {asked}, up to {largest:.4g}: {_holding(largest)}"
            )
        yield cast


def _values(chunk: memoryview, dtype: str) -> "torch.Tensor":
    import torch

    raw = torch.empty(len(chunk), dtype=torch.uint8)  # torch wants memory that can be written
    packed(raw)[:] = chunk
    return raw.view(torch_dtype(dtype))


def _holding(value: float) -> str:
    """Return which --dtype holds a value that a smaller type does not."""
    import torch

    for option, dtype in DTYPE_OPTIONS.items():
        if torch.tensor(value, dtype=torch.float64).to(torch_dtype(dtype)).isfinite():
            return f"use --dtype {option}"
    return "no --dtype holds them; without it each tensor keeps its type"
