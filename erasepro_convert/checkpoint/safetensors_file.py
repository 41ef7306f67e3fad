"""The safetensors container: a JSON header, then the values.

Read by our own code because the safetensors library accepts a name twice, and hides where a
tensor's bytes lie.
"""

import json
import reprlib
from typing import Any

from erasepro_convert.checkpoint.names import is_plain, printable
from erasepro_convert.checkpoint.opened import File
from erasepro_convert.checkpoint.tensors import (
    DIMENSIONS_LIMIT,
    Contents,
    Region,
    TensorInfo,
    dense_stride,
    is_count,
)
from erasepro_convert.dtypes import ITEM_SIZES
from erasepro_convert.errors import CheckpointError

HEADER_LIMIT = 8 << 20
"""Bytes; a full checkpoint with EMA and a trainer's notes has less than a tenth of that."""


def header_size(file: File) -> int:
    """Bytes of the JSON header.  Raises CheckpointError when there cannot be one."""
    size = int.from_bytes(file.read(0, 8), "little")
    if size > file.size - 8:
        raise CheckpointError(
            f"its safetensors header is broken or cut short: it claims {size} bytes, "
            f"the file has {file.size}"
        )
    if size > HEADER_LIMIT:
        raise CheckpointError(
            f"its safetensors header has {size} bytes; no checkpoint needs more than {HEADER_LIMIT}"
        )
    return size


def read_safetensors(file: File) -> Contents:
    """Tensors and metadata of a safetensors file.

    Tensors come in the order of their bytes, whatever the order of the header: mergers that work
    with several threads, and MLX, write names in any order.

    Raises CheckpointError for a malformed header and for holes, overlaps or missing bytes.
    """
    size = header_size(file)
    try:
        header = json.loads(file.read(8, size).decode(), object_pairs_hook=_unique)
        json.dumps(header, ensure_ascii=False).encode()  # JSON can spell what UTF-8 cannot
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"its safetensors header is broken: {_reason(error)}") from error
    metadata = header.pop("__metadata__", None)
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise CheckpointError("its safetensors metadata is not text by name")
    start = 8 + size
    described = ((name, _tensor(name, entry, start)) for name, entry in header.items())
    tensors = dict(sorted(described, key=lambda named: (named[1].offset, named[1].nbytes)))
    _require_packed(tensors, start, file.size)
    return Contents(tensors, metadata, {})


def _reason(error: Exception) -> str:
    return "it is nested too deep" if isinstance(error, RecursionError) else printable(str(error))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name stands there twice")
    return names


def _tensor(name: str, entry: object, data_start: int) -> TensorInfo:
    if not is_plain(name):
        raise CheckpointError(f"it has a tensor with an odd name: {printable(name, 80)}")
    match entry:
        case {"dtype": str() as dtype, "shape": list() as shape, "data_offsets": list() as ends}:
            fits = len(shape) <= DIMENSIONS_LIMIT and len(ends) == 2
            if dtype in ITEM_SIZES and fits and all(map(is_count, (*shape, *ends))):
                sizes, (start, end) = tuple(shape), ends
                region = Region(data_start + start, end - start)
                info = TensorInfo(dtype, sizes, dense_stride(sizes), region.start, region)
                if info.nbytes == region.size:
                    return info
    raise CheckpointError(
        f"its safetensors header describes {name} wrongly: {printable(reprlib.repr(entry))}"
    )


def _require_packed(tensors: dict[str, TensorInfo], start: int, end: int) -> None:
    position = start
    for name, info in tensors.items():
        if info.offset != position:
            raise CheckpointError(f"the bytes before {name} belong to no tensor or to two")
        position += info.nbytes
    if position != end:
        raise CheckpointError(f"its tensors end at byte {position}, the file at {end}")
