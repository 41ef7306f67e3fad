"""One checkpoint file: its container, the positions of its tensors, and their values on demand."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from erasepro_convert.checkpoint.open_file import File, FileHasher, FileHashes, OpenFile, Readable
from erasepro_convert.checkpoint.safetensors_file import LENGTH, header_size, read_safetensors
from erasepro_convert.checkpoint.tensor_info import Container, ParsedFile, Region, TensorInfo
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

ReadChunks = Callable[[int, int], Iterator[memoryview]]
"""Reads bytes of a file in chunks, given where they start and how many there are."""

GGUF_MAGIC = b"GGUF"
AUTOV1_START, AUTOV1_SIZE = 0x100000, 0x10000
"""The bytes of a file that A1111's oldest hash covers."""


@dataclass(frozen=True)
class CheckpointFile:
    """An open file and what was parsed from it; messages and records call it ``name``."""

    name: str
    container: Container
    parsed: ParsedFile
    file: File = field(repr=False)
    _checked: set[int] = field(default_factory=set, repr=False)

    def chunks(self, info: TensorInfo, read: ReadChunks | None = None) -> Iterator[memoryview]:
        """Give the values of a tensor, in chunks of whole elements; strided values are packed.

        ``read`` reads the file's bytes (None: without side effects such as hashing).
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
        """Return a contiguous copy of a tensor, in its stored dtype."""
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
        """Return some rows of a matrix, in its stored dtype, without reading the other rows."""
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

    def hasher(
        self,
        progress: Callable[[int], None],
        file: Readable | None = None,
        *,
        autov3: bool = False,
    ) -> FileHasher:
        """Return a FileHasher of what is read here; ``progress`` gets the bytes hashed.

        ``file`` reads this file in an order that is known in advance.  ``autov3`` asks for that
        digest too, which only a safetensors file has.
        """
        has_autov3 = autov3 and self.container == "safetensors"
        start = LENGTH + header_size(self.file) if has_autov3 else None
        return FileHasher(file or self.file, start, progress)

    def hashes(
        self, progress: Callable[[int], None] = lambda done: None, *, autov3: bool = False
    ) -> FileHashes:
        """Read the whole file and hash it; ``progress`` gets the bytes hashed so far."""
        with prefixing_errors(self.name):
            prefetcher = self.file.prefetching([(0, self.file.size)])
            return self.hasher(progress, prefetcher, autov3=autov3).finish()

    def autov1(self) -> str:
        """Return A1111's oldest hash: eight digits, from 64 KiB at the file's second megabyte."""
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
            self._verify_crc(info.region, [content])

    def _check(self, region: Region) -> None:
        """Compare a storage with its CRC, once.  Raises CheckpointError."""
        if region.start not in self._checked and region.crc is not None:
            self._verify_crc(region, self.file.chunks(region.start, region.size))

    def _verify_crc(self, region: Region, content: Iterable[memoryview]) -> None:
        """Read a storage's content to its end, where its CRC is compared."""
        for _ in verified(region, content):
            pass
        self._checked.add(region.start)


def _whole_elements(pieces: Iterable[memoryview], size: int) -> Iterator[memoryview]:
    """Pass on bytes in chunks that cut no element of ``size`` bytes in two.

    The chunks of a file in a store begin and end anywhere.
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


def _runs(numbers: Sequence[int], gap_limit: int) -> Iterator[list[int]]:
    """Give indices of the numbers in ascending order, in runs with gaps up to ``gap_limit``."""
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    gaps = [i for i, (a, b) in enumerate(pairwise(order), 1) if numbers[b] - numbers[a] > gap_limit]
    for start, end in pairwise([0, *gaps, len(order)]):
        if start < end:
            yield order[start:end]


def open_for_reading(location: Location) -> File:
    """Open the file at a path or URL for reading at any position.

    Raises CheckpointError for anything but a regular file with content.
    """
    return OpenFile(location) if isinstance(location, Path) else RemoteFile(location)


def open_file(path: Location, name: str) -> CheckpointFile:
    """Open ``path`` and find its tensors; its bytes tell the container, not its name.

    Raises CheckpointError, beginning with ``name``, when the file is none of the three containers,
    is malformed, or is a pickle that asks for anything unknown.  OSError passes through.
    """
    with prefixing_errors(name):
        file = open_for_reading(path)
        container, parse = _find_parser(file)
        return CheckpointFile(name, container, parse(file), file)


def _find_parser(file: File) -> tuple[Container, Callable[[File], ParsedFile]]:
    """Return the container of a file and the function that parses it.  Raises CheckpointError."""
    head = bytes(file.read(0, min(file.size, 512)))
    if head.startswith(ZIP_MAGIC):
        return "torch zip", read_torch_zip
    if head.startswith(b"\x80") and LEGACY_MAGIC in head[:LEGACY_MAGIC_LIMIT]:
        return "torch legacy", read_torch_legacy
    if head[8:9] == b"{" and not head.startswith(GGUF_MAGIC):
        return "safetensors", read_safetensors
    raise CheckpointError(_describe_unknown(head))


def _describe_unknown(head: bytes) -> str:
    """Return what a file in no known container seems to be, for a message."""
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
