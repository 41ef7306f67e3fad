"""Write safetensors files: streamed, hashed on the way, deterministic.

The writer is our own because the library's puts metadata in random order, needs every tensor in
hand at once, and does not sync.
"""

import io
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from erasepro_convert.checkpoint.open_file import File
from erasepro_convert.runtime.background import BackgroundDigest, BackgroundThread
from erasepro_convert.runtime.dtypes import BITS
from erasepro_convert.runtime.hashing import TENSORS, Algorithm, begin_tensor_digest

SYNC_EVERY = 256 << 20
"""Bytes after which the file is synced, since a disk would else begin when all is written."""

SMALL = 64 << 10
"""Bytes.  What is smaller is hashed and copied here rather than by a thread and by the kernel."""


@dataclass(frozen=True)
class OutputTensor:
    """A tensor to write; ``data`` gives its packed bytes, in pieces, when its turn comes.

    ``original`` is its name and shape in the original spelling, which its digest is made of.
    ``origin`` is the file and the position where the same bytes lie, if they do.  ``is_late`` says
    that its bytes are not known from the start: it comes last among tensors of its width.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    data: Callable[[], Iterator[memoryview]]
    original: tuple[str, tuple[int, ...]]
    origin: tuple[File, int] | None = None
    is_late: bool = False


class Sink(Protocol):
    """What can be written to: a file, or an upload."""

    def write(self, content: bytes | memoryview, /) -> int:
        """Write all of ``content``."""

    def flush(self) -> None:
        """Pass on what is buffered."""


@dataclass(frozen=True)
class Written:
    """What was written as a weight file.

    ``size`` is in bytes.  ``sha256`` is the digest of the file, ``autov3`` that of all behind its
    header, where it was asked for.  ``tensors`` has the digest of each tensor by its original name.
    """

    size: int
    sha256: str
    autov3: str | None
    tensors: dict[str, str]


@dataclass(frozen=True)
class WeightFile:
    """A safetensors file to write: its tensors, in any order, and its metadata."""

    tensors: Sequence[OutputTensor]
    metadata: Mapping[str, str]

    @cached_property
    def ordered(self) -> list[OutputTensor]:
        """Tensors as the file has them: the widest types first, which keeps all of them aligned.

        The safetensors library orders them so too.  Within a type the order is the caller's, since
        reading a file from front to back is fastest.
        """
        return sorted(self.tensors, key=lambda tensor: (-BITS[tensor.dtype], tensor.is_late))

    @cached_property
    def header(self) -> bytes:
        """Length, JSON and padding, which begin the file."""
        entries: dict[str, object] = {"__metadata__": dict(sorted(self.metadata.items()))}
        position = 0
        for tensor in self.ordered:
            entries[tensor.name] = {
                "dtype": tensor.dtype,
                "shape": list(tensor.shape),
                "data_offsets": [position, position + tensor.nbytes],
            }
            position += tensor.nbytes
        text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)


def stream(
    file: WeightFile,
    sink: Sink,
    progress: Callable[[int, int], None],
    *,
    autov3: bool = False,
    algorithm: Algorithm = TENSORS,
) -> Written:
    """Write a safetensors file; ``progress`` gets the bytes done and the bytes in all.

    Bytes that lie in a file already are copied by the kernel, unless they are few.
    """
    total = len(file.header) + file.nbytes
    file_digest = BackgroundDigest(file.header)
    body_digest = BackgroundDigest() if autov3 else None
    hashing_tensors = BackgroundThread()
    syncing, synced_bytes = BackgroundThread(), 0
    descriptor = sink.fileno() if isinstance(sink, io.BufferedWriter) else None
    is_on_disk = descriptor is not None and stat.S_ISREG(os.fstat(descriptor).st_mode)
    sink.write(file.header)
    done = len(file.header)
    tensor_digests = {}
    for tensor in file.ordered:
        end = done + tensor.nbytes
        name, shape = tensor.original
        tensor_digest = begin_tensor_digest(name, tensor.dtype, shape, algorithm)
        tensor_digests[name] = tensor_digest
        for chunk in tensor.data() if tensor.nbytes else ():
            file_digest.update(chunk)
            if body_digest:
                body_digest.update(chunk)
            if tensor.nbytes < SMALL:
                tensor_digest.update(chunk)
            else:
                hashing_tensors.submit(tensor_digest.update, chunk)
            copied = 0
            if tensor.origin and descriptor is not None and tensor.nbytes >= SMALL:
                origin, start = tensor.origin
                sink.flush()
                copied = origin.copy(start + tensor.nbytes - (end - done), len(chunk), descriptor)
            sink.write(chunk[copied:])
            done += len(chunk)
            if descriptor is not None and is_on_disk and done - synced_bytes >= SYNC_EVERY:
                syncing.submit(os.fsync, descriptor)
                synced_bytes = done
            progress(done, total)
        assert done == end, tensor.name
    for thread in (hashing_tensors, syncing):
        thread.wait()
    return Written(
        size=total,
        sha256=file_digest.hexdigest(),
        autov3=body_digest.hexdigest() if body_digest else None,
        tensors={name: digest.hexdigest() for name, digest in tensor_digests.items()},
    )
