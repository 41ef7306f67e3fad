"""Open any single-file checkpoint and read its tensors lazily, running nothing of it."""

import hashlib
import mmap
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from erasepro_convert.checkpoint.safetensors_file import header_size, read_safetensors
from erasepro_convert.checkpoint.tensors import Container, Contents, TensorInfo, chunks
from erasepro_convert.checkpoint.torch_legacy import MAGIC as LEGACY_MAGIC
from erasepro_convert.checkpoint.torch_legacy import read_torch_legacy
from erasepro_convert.checkpoint.torch_zip import MAGIC as ZIP_MAGIC
from erasepro_convert.checkpoint.torch_zip import read_torch_zip
from erasepro_convert.dtypes import packed, torch_dtype
from erasepro_convert.errors import CheckpointError

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint", "InputHashes", "TensorInfo", "open_checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file, mapped: its tensors' places, and their values on demand.

    ``others`` describes entries that are not tensors.  The mapping lives as long as this object
    and the views it has given out.
    """

    name: str
    container: Container
    contents: Contents
    _mapped: mmap.mmap = field(repr=False)

    @property
    def tensors(self) -> dict[str, TensorInfo]:
        """Place, dtype and shape of every tensor."""
        return self.contents.tensors

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self._mapped)

    def bytes(self, name: str) -> memoryview:
        """The packed values of a tensor as they lie in the file; strided ones are packed first."""
        info = self.tensors[name]
        if not info.contiguous:
            return packed(self.tensor(name))
        return memoryview(self._mapped)[info.offset : info.offset + info.nbytes]

    def tensor(self, name: str) -> "torch.Tensor":
        """A contiguous copy of a tensor, in its stored dtype."""
        import torch

        info = self.tensors[name]
        dtype = torch_dtype(info.dtype)
        if info.nbytes == 0:
            return torch.empty(info.shape, dtype=dtype)
        copy = bytearray(memoryview(self._mapped)[info.offset : info.offset + info.extent])
        values = torch.frombuffer(copy, dtype=dtype)
        return values.as_strided(info.shape, info.stride).contiguous()

    def hashes(self, progress: Callable[[int, int], None]) -> "InputHashes":
        """Digests of the file, read once; ``progress`` gets bytes done and bytes in all."""
        whole, body = hashlib.sha256(), hashlib.sha256()
        has_body = self.container == "safetensors"
        body_start = 8 + (header_size(self._mapped[:9], self.size) or 0)
        done = 0
        for chunk in chunks(memoryview(self._mapped)):
            whole.update(chunk)
            if has_body:
                body.update(chunk[max(0, body_start - done) :])
            done += len(chunk)
            progress(done, self.size)
        return InputHashes(whole.hexdigest(), body.hexdigest() if has_body else None)


@dataclass(frozen=True)
class InputHashes:
    """SHA-256 of a file, and of what follows a safetensors header (None for other containers)."""

    sha256: str
    autov3: str | None


def open_checkpoint(path: Path) -> Checkpoint:
    """Map ``path`` and find its tensors; which container it is shows in its bytes, not its name.

    Raises CheckpointError when the file is none of the three containers, is malformed, or is a
    pickle that names anything unknown.  OSError passes through.
    """
    try:
        mapped = _map(path)
        container, read = _container(mapped)
        contents = read(mapped)
        _require_inside(contents, len(mapped))
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error}") from error
    return Checkpoint(path.name, container, contents, mapped)


def _map(path: Path) -> mmap.mmap:
    # O_NONBLOCK: opening a pipe that nobody writes to must not hang.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError("it is not a regular file")
        if status.st_size == 0:
            raise CheckpointError("it is empty")
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)


def _container(mapped: mmap.mmap) -> tuple[Container, Callable[[mmap.mmap], Contents]]:
    head = mapped[:512]
    if head.startswith(ZIP_MAGIC):
        return "torch zip", read_torch_zip
    if head.startswith(LEGACY_MAGIC):
        return "torch legacy", read_torch_legacy
    if header_size(head, len(mapped)) is not None:
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


def _require_inside(contents: Contents, size: int) -> None:
    for name, info in contents.tensors.items():
        if info.offset + info.extent > size:
            raise CheckpointError(
                f"it is cut short: {name} ends at byte {info.offset + info.extent}"
            )
