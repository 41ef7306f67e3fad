"""Write safetensors files: streamed, hashed on the way, deterministic, all or nothing.

Our own writer because the library's puts metadata in random order, needs every tensor in hand at
once, and neither syncs nor replaces atomically.
"""

import hashlib
import io
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from erasepro_convert.checkpoint.open_file import File
from erasepro_convert.runtime.background import BackgroundThread
from erasepro_convert.runtime.dtypes import BITS
from erasepro_convert.runtime.hashing import begin_tensor_digest

SYNC_EVERY = 256 << 20
"""Bytes: left to itself the disk would begin when all else is done."""


@dataclass(frozen=True)
class OutputTensor:
    """A tensor to write; ``data`` gives its packed bytes, in pieces, when its turn comes.

    ``original`` is its name and shape in the original spelling, which its digest is made of.
    ``origin`` is where the same bytes lie in a file, if they do.  ``late`` ones come last of those
    as wide: their bytes are not known from the start.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    data: Callable[[], Iterator[memoryview]]
    original: tuple[str, tuple[int, ...]]
    origin: tuple[File, int] | None = None
    late: bool = False


class Output(Protocol):
    """What can be written to: a file, or an upload."""

    def write(self, content: bytes | memoryview, /) -> int:
        """Take all of it."""

    def flush(self) -> None:
        """Pass on what was taken."""


@dataclass(frozen=True)
class Written:
    """Size in bytes of a safetensors stream, its digest, and that of what follows its header.

    ``tensors`` has the digest of each tensor by its original name; ``head`` is all before them.
    """

    size: int
    sha256: str
    autov3: str
    tensors: dict[str, str]
    head: bytes = field(repr=False)


def stream(
    tensors: Sequence[OutputTensor],
    metadata: Mapping[str, str],
    output: Output,
    progress: Callable[[int, int], None],
) -> Written:
    """Write a safetensors file; ``progress`` gets bytes done and bytes in all.

    The widest dtypes come first, which keeps every tensor aligned, as the library has it; within
    them the order is the caller's, since reading a file from front to back is fastest.  Where the
    bytes lie in a file already the kernel copies them.
    """
    ordered = in_order(tensors)
    head = header(ordered, metadata)
    total = len(head) + sum(tensor.nbytes for tensor in ordered)
    whole, body = hashlib.sha256(head), hashlib.sha256()
    lanes = BackgroundThread(), BackgroundThread(), BackgroundThread()
    syncing, synced = BackgroundThread(), 0
    descriptor = output.fileno() if isinstance(output, io.BufferedWriter) else None
    on_disk = descriptor is not None and stat.S_ISREG(os.fstat(descriptor).st_mode)
    output.write(head)
    done = len(head)
    digests = {}
    for tensor in ordered:
        end = done + tensor.nbytes
        name, shape = tensor.original
        own = digests[name] = begin_tensor_digest(name, tensor.dtype, shape)
        for chunk in tensor.data() if tensor.nbytes else ():
            for lane, digest in zip(lanes, (whole, body, own), strict=True):
                lane.submit(digest.update, chunk)
            copied = 0
            if tensor.origin and descriptor is not None:
                file, start = tensor.origin
                output.flush()
                copied = file.copy(start + tensor.nbytes - (end - done), len(chunk), descriptor)
            output.write(chunk[copied:])
            done += len(chunk)
            if descriptor is not None and on_disk and done - synced >= SYNC_EVERY:
                syncing.submit(os.fsync, descriptor)
                synced = done
            progress(done, total)
        assert done == end, tensor.name
    for lane in (*lanes, syncing):
        lane.wait()
    of_tensors = {name: own.hexdigest() for name, own in digests.items()}
    return Written(total, whole.hexdigest(), body.hexdigest(), of_tensors, head)


def in_order(tensors: Sequence[OutputTensor]) -> list[OutputTensor]:
    """Tensors as a file has them."""
    return sorted(tensors, key=lambda tensor: (-BITS[tensor.dtype], tensor.late))


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
