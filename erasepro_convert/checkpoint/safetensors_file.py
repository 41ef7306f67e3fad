"""The safetensors container: a JSON header, then the values.

Read by our own code because the safetensors library accepts a name twice and hides where a
tensor's bytes lie.
"""

import json
import mmap
from typing import Any

from erasepro_convert.checkpoint.tensors import Contents, TensorInfo, dense_stride
from erasepro_convert.dtypes import ITEM_SIZES
from erasepro_convert.errors import CheckpointError

HEADER_LIMIT = 100_000_000
"""Bytes; the safetensors library's own limit."""


def header_size(head: bytes, file_size: int) -> int | None:
    """Bytes of the JSON header if ``head`` (the first nine bytes) begins a safetensors file."""
    size = int.from_bytes(head[:8], "little")
    return size if head[8:9] == b"{" and 0 < size <= file_size - 8 else None


def read_safetensors(mapped: mmap.mmap) -> Contents:
    """Tensors and metadata of a safetensors file.

    Raises CheckpointError for a malformed header and for holes, overlaps or missing bytes.
    """
    size = header_size(mapped[:9], len(mapped))
    if size is None or size > HEADER_LIMIT:
        raise CheckpointError("its safetensors header is broken")
    try:
        header = json.loads(mapped[8 : 8 + size].decode(), object_pairs_hook=_unique)
        json.dumps(header, ensure_ascii=False).encode()  # JSON can spell what UTF-8 cannot
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"its safetensors header is broken: {error}") from error
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise CheckpointError("its safetensors metadata is not text by name")
    tensors = {name: _tensor(name, entry, 8 + size) for name, entry in header.items()}
    _require_packed(tensors, 8 + size, len(mapped))
    return Contents(tensors, metadata, {})


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name stands there twice")
    return names


def _tensor(name: str, entry: object, data_start: int) -> TensorInfo:
    match entry:
        case {
            "dtype": str() as dtype,
            "shape": list() as sizes,
            "data_offsets": [int(start), int(end)],
        }:
            shape = tuple(sizes)
            if dtype in ITEM_SIZES and all(type(n) is int and n >= 0 for n in shape):
                info = TensorInfo(dtype, shape, dense_stride(shape), data_start + start)
                if info.nbytes == end - start:
                    return info
    raise CheckpointError(f"its safetensors header describes {name} wrongly: {entry}")


def _require_packed(tensors: dict[str, TensorInfo], start: int, end: int) -> None:
    position = start
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if info.offset != position:
            raise CheckpointError(f"the bytes before {name} belong to no tensor or to two")
        position += info.nbytes
    if position != end:
        raise CheckpointError(f"its tensors end at byte {position}, the file at {end}")
