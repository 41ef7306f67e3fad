"""One checkpoint file: which container it is, its tensors' places, and their values on demand."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from erasepro_convert.checkpoint.names import naming
from erasepro_convert.checkpoint.opened import FileHashes, OpenFile, hash_file
from erasepro_convert.checkpoint.safetensors_file import header_size, read_safetensors
from erasepro_convert.checkpoint.tensors import CHUNK, Container, Contents, Region, TensorInfo
from erasepro_convert.checkpoint.torch_legacy import MAGIC as LEGACY_MAGIC
from erasepro_convert.checkpoint.torch_legacy import read_torch_legacy
from erasepro_convert.checkpoint.torch_zip import MAGIC as ZIP_MAGIC
from erasepro_convert.checkpoint.torch_zip import read_torch_zip
from erasepro_convert.checkpoint.zip_index import require_crc
from erasepro_convert.dtypes import packed, torch_dtype
from erasepro_convert.errors import CheckpointError

if TYPE_CHECKING:
    import torch

AUTOV1_START, AUTOV1_SIZE = 0x100000, 0x10000


@dataclass(frozen=True)
class CheckpointFile:
    """An open file and what was found in it; ``name`` is how messages and records call it."""

    name: str
    container: Container
    contents: Contents
    file: OpenFile = field(repr=False)
    _checked: set[int] = field(default_factory=set, repr=False)

    def chunks(self, info: TensorInfo) -> Iterator[memoryview]:
        """The packed values of a tensor, piece by piece; strided ones are packed first."""
        with naming(self.name):
            if info.contiguous:
                self._check(info.region)
                yield from self.file.chunks(info.offset, info.nbytes)
                return
        values = packed(self.tensor(info))
        yield from (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))

    def tensor(self, info: TensorInfo) -> "torch.Tensor":
        """A contiguous copy of a tensor, in its stored dtype."""
        import torch

        dtype = torch_dtype(info.dtype)
        with naming(self.name):
            self._check(info.region)
            if info.nbytes == 0:
                return torch.empty(info.shape, dtype=dtype)
            raw = self.file.read(info.offset, info.extent)
        values = torch.frombuffer(raw, dtype=dtype)
        return values.as_strided(info.shape, info.stride).contiguous()

    def hashes(self, progress: Callable[[int], None]) -> FileHashes:
        """Digests of the file, read once; ``progress`` gets the bytes done so far."""
        with naming(self.name):
            start = 8 + header_size(self.file) if self.container == "safetensors" else None
            return hash_file(self.file, start, progress)

    def autov1(self) -> str:
        """A1111's oldest hash: of 64 KiB in the file's second megabyte, eight digits."""
        count = max(0, min(AUTOV1_SIZE, self.file.size - AUTOV1_START))
        with naming(self.name):
            content = self.file.read(AUTOV1_START, count) if count else b""
        return hashlib.sha256(content).hexdigest()[:8]

    def _check(self, region: Region) -> None:
        """Compare a storage with its CRC, once.  Raises CheckpointError."""
        if region.start not in self._checked:
            require_crc(region, self.file.chunks(region.start, region.size))
            self._checked.add(region.start)


def open_file(path: Path, name: str) -> CheckpointFile:
    """Open ``path`` and find its tensors; which container it is shows in its bytes, not its name.

    Raises CheckpointError, beginning with ``name``, when the file is none of the three containers,
    is malformed, or is a pickle that asks for anything unknown.  OSError passes through.
    """
    with naming(name):
        file = OpenFile(path)
        container, read = _container(file)
        return CheckpointFile(name, container, read(file), file)


def _container(file: OpenFile) -> tuple[Container, Callable[[OpenFile], Contents]]:
    head = bytes(file.read(0, min(file.size, 512)))
    if head.startswith(ZIP_MAGIC):
        return "torch zip", read_torch_zip
    if head.startswith(LEGACY_MAGIC):
        return "torch legacy", read_torch_legacy
    if head[8:9] == b"{":
        return "safetensors", read_safetensors
    raise CheckpointError(_unknown(head))


def _unknown(head: bytes) -> str:
    """What a file that is no checkpoint container looks like."""
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: fetch the file that it stands for"
    if head[257:262] == b"ustar":
        return "it is a tar archive (torch before 0.4 wrote such files); save it anew with torch"
    if head.startswith(b"\x80"):
        return "it is a pickle, but not one that torch.save writes"
    if head.lstrip()[:1] == b"<":
        return "it is a web page, not a checkpoint: the download went wrong"
    return "it is neither a safetensors file nor a torch checkpoint"
