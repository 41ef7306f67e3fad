"""One checkpoint file: which container it is, its tensors' places, and their values on demand."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from erasepro_convert.checkpoint.open_file import File, FileHashes, Hashing, OpenFile, Readable
from erasepro_convert.checkpoint.safetensors_file import LENGTH, header_size, read_safetensors
from erasepro_convert.checkpoint.tensor_info import Container, Contents, Region, TensorInfo
from erasepro_convert.checkpoint.torch_legacy import MAGIC as LEGACY_MAGIC
from erasepro_convert.checkpoint.torch_legacy import MAGIC_LIMIT as LEGACY_MAGIC_LIMIT
from erasepro_convert.checkpoint.torch_legacy import read_torch_legacy
from erasepro_convert.checkpoint.torch_zip import MAGIC as ZIP_MAGIC
from erasepro_convert.checkpoint.torch_zip import read_torch_zip
from erasepro_convert.checkpoint.zip_index import verified
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.dtypes import BITS, packed, torch_dtype
from erasepro_convert.runtime.memory import CHUNK_SIZE
from erasepro_convert.runtime.printable import prefixing_errors
from erasepro_convert.storage.location import Location
from erasepro_convert.storage.remote_file import RemoteFile

if TYPE_CHECKING:
    import torch

Read = Callable[[int, int], Iterator[memoryview]]
"""Gives bytes of a file in pieces: from where on, and how many."""

GGUF_MAGIC = b"GGUF"
AUTOV1_START, AUTOV1_SIZE = 0x100000, 0x10000


@dataclass(frozen=True)
class CheckpointFile:
    """An open file and what was found in it; ``name`` is how messages and records call it."""

    name: str
    container: Container
    contents: Contents
    file: File = field(repr=False)
    _checked: set[int] = field(default_factory=set, repr=False)

    def chunks(self, info: TensorInfo, read: Read | None = None) -> Iterator[memoryview]:
        """The packed values of a tensor in pieces of whole elements; strided ones are packed first.

        ``read`` gives the file's bytes from a position on (None: no more than that is done).
        """
        read = read or self.file.chunks
        size = max(1, BITS[info.dtype] // 8)
        with prefixing_errors(self.name):
            if info.contiguous and info.fills_region:
                content = verified(info.region, read(info.offset, info.nbytes))
                yield from _whole_elements(content, size)
                self._checked.add(info.region.start)
                return
            if info.contiguous:
                self._check(info.region)
                yield from _whole_elements(read(info.offset, info.nbytes), size)
                return
        values = packed(self.tensor(info))
        yield from (
            values[start : start + CHUNK_SIZE] for start in range(0, len(values), CHUNK_SIZE)
        )

    def tensor(self, info: TensorInfo) -> "torch.Tensor":
        """A contiguous copy of a tensor, in its stored dtype."""
        import torch

        dtype = torch_dtype(info.dtype)
        with prefixing_errors(self.name):
            if info.nbytes == 0:
                return torch.empty(info.shape, dtype=dtype)
            raw = torch.empty(info.extent, dtype=torch.uint8)
            self._read(info, packed(raw))
        values = raw.view(dtype)
        return values.as_strided(info.shape, info.stride).contiguous()

    def rows(self, info: TensorInfo, numbers: Sequence[int]) -> "torch.Tensor":
        """Some rows of a matrix, in its stored dtype, without reading the others."""
        import torch

        if not info.contiguous:
            return self.tensor(info)[list(numbers)]
        size = info.nbytes // info.shape[0]
        raw = torch.empty(len(numbers), size, dtype=torch.uint8)
        with prefixing_errors(self.name):
            self._check(info.region)
            for run in _runs(numbers, self.file.gap_limit // size + 1):
                first, last = numbers[run[0]], numbers[run[-1]]
                content = self.file.read(info.offset + first * size, (last - first + 1) * size)
                read = torch.frombuffer(content, dtype=torch.uint8).view(-1, size)
                raw[run] = read[[numbers[i] - first for i in run]]
        return raw.view(torch_dtype(info.dtype))

    def hashing(self, progress: Callable[[int], None], file: Readable | None = None) -> Hashing:
        """Digests to be made while the file is read; ``progress`` gets the bytes done so far.

        ``file`` is the same one for a certain order of reading.
        """
        start = LENGTH + header_size(self.file) if self.container == "safetensors" else None
        return Hashing(file or self.file, start, progress)

    def hashes(self, progress: Callable[[int], None] = lambda done: None) -> FileHashes:
        """Digests of the file, read for them alone; ``progress`` gets the bytes done so far."""
        with prefixing_errors(self.name):
            ahead = self.file.prefetching([(0, self.file.size)])
            return self.hashing(progress, ahead).finish()

    def autov1(self) -> str:
        """A1111's oldest hash: of 64 KiB in the file's second megabyte, eight digits."""
        count = max(0, min(AUTOV1_SIZE, self.file.size - AUTOV1_START))
        with prefixing_errors(self.name):
            content = self.file.read(AUTOV1_START, count) if count else b""
        return hashlib.sha256(content).hexdigest()[:8]

    def _read(self, info: TensorInfo, content: memoryview) -> None:
        """Fill ``content`` with the bytes from the first element to the last."""
        if not info.fills_region:
            self._check(info.region)
        self.file.read_into(content, info.offset)
        if info.region.start not in self._checked and info.fills_region:
            self._exhaust(info.region, [content])

    def _check(self, region: Region) -> None:
        """Compare a storage with its CRC, once.  Raises CheckpointError."""
        if region.start not in self._checked and region.crc is not None:
            self._exhaust(region, self.file.chunks(region.start, region.size))

    def _exhaust(self, region: Region, content: Iterable[memoryview]) -> None:
        for _ in verified(region, content):
            pass
        self._checked.add(region.start)


def _whole_elements(pieces: Iterable[memoryview], size: int) -> Iterator[memoryview]:
    """Pass on bytes in pieces that cut no element of ``size`` bytes in two.

    What comes from a store begins and ends anywhere.
    """
    cut = b""  # the beginning of an element whose end is still to come
    for piece in pieces:
        missing = -len(cut) % size
        cut += piece[:missing]
        if len(cut) == size:
            yield memoryview(cut)
        elif missing:
            continue
        rest = piece[missing:]
        end = len(rest) - len(rest) % size
        if end:
            yield rest[:end]
        cut = bytes(rest[end:])


def _runs(numbers: Sequence[int], near: int) -> Iterator[list[int]]:
    """Which numbers, from the least to the largest, lie no more than ``near`` apart."""
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    gaps = [i for i, (a, b) in enumerate(pairwise(order), 1) if numbers[b] - numbers[a] > near]
    for start, end in pairwise([0, *gaps, len(order)]):
        if start < end:
            yield order[start:end]


def opened(location: Location) -> File:
    """The file at a path or URL, to be read at any place.

    Raises CheckpointError for anything but a regular file with content.
    """
    return OpenFile(location) if isinstance(location, Path) else RemoteFile(location)


def open_file(path: Location, name: str) -> CheckpointFile:
    """Open ``path`` and find its tensors; which container it is shows in its bytes, not its name.

    Raises CheckpointError, beginning with ``name``, when the file is none of the three containers,
    is malformed, or is a pickle that asks for anything unknown.  OSError passes through.
    """
    with prefixing_errors(name):
        file = opened(path)
        container, read = _container(file)
        return CheckpointFile(name, container, read(file), file)


def _container(file: File) -> tuple[Container, Callable[[File], Contents]]:
    head = bytes(file.read(0, min(file.size, 512)))
    if head.startswith(ZIP_MAGIC):
        return "torch zip", read_torch_zip
    if head.startswith(b"\x80") and LEGACY_MAGIC in head[:LEGACY_MAGIC_LIMIT]:
        return "torch legacy", read_torch_legacy
    if head[8:9] == b"{" and not head.startswith(GGUF_MAGIC):
        return "safetensors", read_safetensors
    raise CheckpointError(_unknown(head))


def _unknown(head: bytes) -> str:
    """What a file that is no checkpoint container looks like."""
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: fetch the file that it stands for"
    if head.startswith(GGUF_MAGIC):
        return "it is a GGUF file, whose weights are quantised: give the safetensors original"
    if head[257:262] == b"ustar":
        return "it is a tar archive (torch before 0.4 wrote such files); save it anew with torch"
    if head.startswith(b"\x80"):
        return "it is a pickle, but not one that torch.save writes"
    if head.lstrip()[:1] == b"<":
        return "it is a web page, not a checkpoint: the download went wrong"
    return "it is neither a safetensors file nor a torch checkpoint"
