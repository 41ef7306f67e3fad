"""The safetensors container: a JSON header, then the values.

It is parsed here because the safetensors library accepts a name twice, and does not tell where a
tensor's bytes lie.
"""

import json
import math
import reprlib
from typing import Any

from erasepro_convert.checkpoint.open_file import File
from erasepro_convert.checkpoint.tensor_info import (
    DIMENSIONS_LIMIT,
    ParsedFile,
    Region,
    TensorInfo,
    dense_stride,
    is_count,
)
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.dtypes import BITS, SAFETENSORS_DTYPES
from erasepro_convert.runtime.printable import is_plain, printable

LENGTH = 8
"""Bytes at the start of a file that give the length of the header, which follows them."""

HEADER_LIMIT = 100_000_000
"""Bytes.  The safetensors library reads no more; workflows and images in metadata reach 9 MB."""

TEXTS_LIMIT, STRUCTURE_LIMIT = 1_000_000, 8 << 20
"""Limits on the number of texts in quotes, and on the bytes between them without white space.

Both make a header large in memory; a full checkpoint with EMA has less than a tenth of either."""


def header_size(file: File) -> int:
    """Return the size of the JSON header.  Raises CheckpointError where the file is smaller."""
    size = int.from_bytes(file.read(0, LENGTH), "little")
    if size > file.size - LENGTH:
        raise CheckpointError(
            f"its safetensors header is broken or cut short: it claims {size} bytes, "
            f"the file has {file.size}"
        )
    if size > HEADER_LIMIT:
        raise CheckpointError(_too_large(size))
    return size


def require_readable_header(header: bytes | bytearray) -> None:
    """Raise CheckpointError for a JSON header that this reader or the library refuses by its size.

    This is checked before parsing, since the parsed structure takes many times the memory.
    """
    if len(header) > HEADER_LIMIT:
        raise CheckpointError(_too_large(len(header)))
    unescaped = header.replace(rb"\\", b"").replace(rb"\"", b"")
    parts = unescaped.split(b'"', 2 * TEXTS_LIMIT + 1)  # alternately between texts and within them
    structure = b"".join(parts[::2]).translate(None, b" \t\r\n")
    if len(parts) > 2 * TEXTS_LIMIT + 1 or len(structure) > STRUCTURE_LIMIT:
        raise CheckpointError("its safetensors header describes more than a checkpoint can hold")


def read_safetensors(file: File) -> ParsedFile:
    """Parse the tensors and metadata of a safetensors file.

    Tensors are ordered by their bytes, whatever the order in the header: mergers with several
    threads, and MLX, write names in any order.

    Raises CheckpointError for a malformed header and for holes, overlaps or missing bytes.
    """
    size = header_size(file)
    text = file.read(LENGTH, size)
    require_readable_header(text)
    try:
        header = json.loads(text.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"its safetensors header is broken: {_reason(error)}") from error
    metadata = header.pop("__metadata__", None)
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise CheckpointError("its safetensors metadata is not text by name")
    start = LENGTH + size
    described = ((name, _tensor(name, entry, start)) for name, entry in header.items())
    tensors = dict(sorted(described, key=lambda named: (named[1].offset, named[1].nbytes)))
    _require_packed(tensors, start, file.size)
    return ParsedFile(tensors, metadata, {})


def _reason(error: Exception) -> str:
    return "it is nested too deep" if isinstance(error, RecursionError) else printable(str(error))


def _too_large(size: int) -> str:
    return (
        f"its safetensors header has {size} bytes, more than the {HEADER_LIMIT} that loaders read"
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for text in (part for pair in pairs for part in pair if isinstance(part, str)):
        text.encode()  # raises for lone surrogates, which JSON can hold and UTF-8 cannot
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
            if dtype in SAFETENSORS_DTYPES and fits and all(map(is_count, (*shape, *ends))):
                sizes, (start, end) = tuple(shape), ends
                region = Region(data_start + start, end - start)
                info = TensorInfo(dtype, sizes, dense_stride(sizes), region.start, region)
                if math.prod(sizes) * BITS[dtype] == 8 * region.size:
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
