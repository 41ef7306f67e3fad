"""Write safetensors files: streamed, hashed on the way, deterministic, all or nothing.

Our own writer because the library's puts metadata in random order, needs every tensor in hand at
once, and neither syncs nor replaces atomically.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from erasepro_convert.checkpoint.tensors import chunks
from erasepro_convert.dtypes import ITEM_SIZES


@dataclass(frozen=True)
class OutputTensor:
    """A tensor to write; ``data`` gives its packed bytes when its turn comes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    data: Callable[[], memoryview]


@dataclass(frozen=True)
class Written:
    """Size in bytes of a safetensors stream, its digest, and that of what follows its header."""

    size: int
    sha256: str
    autov3: str


def stream(
    tensors: Sequence[OutputTensor],
    metadata: Mapping[str, str],
    write: Callable[[memoryview], object],
    progress: Callable[[int, int], None],
) -> Written:
    """Send a safetensors file to ``write``; ``progress`` gets bytes done and bytes in all."""
    # The library's own order: widest dtype first keeps every tensor aligned, then by name.
    ordered = sorted(tensors, key=lambda tensor: (-ITEM_SIZES[tensor.dtype], tensor.name))
    head = header(ordered, metadata)
    total = len(head) + sum(tensor.nbytes for tensor in ordered)
    whole, body = hashlib.sha256(head), hashlib.sha256()
    write(memoryview(head))
    done = len(head)
    for tensor in ordered:
        data = tensor.data().cast("B") if tensor.nbytes else memoryview(b"")
        assert len(data) == tensor.nbytes, tensor.name
        for chunk in chunks(data):
            write(chunk)
            whole.update(chunk)
            body.update(chunk)
            done += len(chunk)
            progress(done, total)
    return Written(total, whole.hexdigest(), body.hexdigest())


def header(tensors: Sequence[OutputTensor], metadata: Mapping[str, str]) -> bytes:
    """Length, JSON and padding that begin a safetensors file with ``tensors`` in this order."""
    entries: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    position = 0
    for tensor in tensors:
        offsets = [position, position + tensor.nbytes]
        entries[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": offsets,
        }
        position += tensor.nbytes
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


@contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of ``target`` in one step when the block ends well.

    It lies beside ``target`` meanwhile; after a failure or an interrupt it is gone and ``target``
    is as it was.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # so that the new name survives a power cut
    finally:
        os.close(folder)
