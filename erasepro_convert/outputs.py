"""What is written: for each tensor an edit, a copy, or a copy in another type; in which file."""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import safetensors
import torch

from erasepro_convert.dtypes import FLOATING, ITEM_SIZES, OPTIONS, Option, packed, torch_dtype
from erasepro_convert.erase import Edit
from erasepro_convert.errors import LimitError
from erasepro_convert.layout.keys import POSITION_IDS, POSITIONS
from erasepro_convert.source import Source
from erasepro_convert.writer import OutputTensor


def output_tensors(
    source: Source, edits: Mapping[str, Edit], option: Option | None
) -> list[OutputTensor]:
    """Every tensor to write, each with the way to get its bytes when its turn comes.

    ``option`` is a value of ``--dtype``.  Getting the bytes raises LimitError where a value does
    not fit into the type asked for.
    """
    tensors = []
    for name, old in source.layout.source.items():
        shape, dtype = source.layout.shapes[name], source.checkpoint.tensors[old].dtype
        asked = OPTIONS[option] if option and dtype in FLOATING else dtype
        data: Callable[[], Iterator[memoryview]]
        if name == POSITION_IDS:
            data, asked = _positions, "I64"
        elif name in edits:
            data = partial(_packed, edits[name].weight)
        elif asked == dtype:
            data = partial(source.checkpoint.chunks, old)
        else:
            data = partial(_cast, source, name, asked)
        nbytes = math.prod(shape) * ITEM_SIZES[asked]
        tensors.append(OutputTensor(name, asked, shape, nbytes, data, (name, shape)))
    return tensors


def _packed(values: torch.Tensor) -> Iterator[memoryview]:
    yield packed(values)


def _positions() -> Iterator[memoryview]:
    """What every text encoder of SD1.x has there; a file's own may have been damaged by merges."""
    yield packed(torch.arange(POSITIONS))


def _cast(source: Source, name: str, dtype: str) -> Iterator[memoryview]:
    cast = source.read(name).to(torch_dtype(dtype))
    # aminmax needs no temporary copy, which isinf does: the largest tensor has 150 MB.
    if cast.numel() and torch.isinf(torch.stack(torch.aminmax(cast))).any():
        raise LimitError(f"{name} has values too large for {dtype}; use --dtype bf16 or fp32")
    yield packed(cast)


def require_readable(path: str, names: set[str]) -> None:
    """Have the reference implementation open what we wrote before it takes anything's place."""
    with safetensors.safe_open(path, framework="pt") as file:
        found = set(file.keys())
    if found != names:
        raise RuntimeError(f"the safetensors library reads {len(found)} of {len(names)} tensors")
