"""Memory for large intermediate matrices, and temporary files."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

from erasepro_convert.errors import EraseproError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FILE_THRESHOLD = 64 << 20
"""Bytes from which a matrix lies in a temporary file."""
ZEROS_SIZE = 1 << 20
"""Bytes of zeros that are written at once."""
CANNOT_RESERVE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
"""Error numbers of posix_fallocate where the file system or the system does not support it."""


def scratch_matrix(rows: int, width: int, dtype: "torch.dtype") -> "Tensor":
    """Allocate an uninitialised matrix (rows × width); a large one lies in a temporary file.

    The system can then write it to disk, so memory stays bounded however many prompts there are.
    Raises EraseproError where the folder for temporary files has too little room.
    """
    import torch

    size = rows * width * dtype.itemsize
    if size < FILE_THRESHOLD:
        return torch.empty(rows, width, dtype=dtype)
    with temporary_file() as file:  # the mapping outlives the file
        _reserve(file, size)
        mapped = torch.from_file(file.name, shared=True, size=rows * width, dtype=dtype)
    return mapped.view(rows, width)


@contextmanager
def temporary_file() -> Iterator[BinaryIO]:
    """Make a temporary file, which is deleted after the block.

    Raises EraseproError, which names the folder for temporary files, where the system refuses to
    create, fill or map the file.
    """
    try:
        with tempfile.NamedTemporaryFile(prefix="erasepro-") as file:
            yield cast(BinaryIO, file)
    except OSError as error:
        folder = tempfile.tempdir or "the folder for temporary files"
        raise EraseproError(
            f"{folder}: {error.strerror or error}; TMPDIR can name another folder for temporary "
            "files, on a disk with more room"
        ) from error


def _reserve(file: BinaryIO, size: int) -> None:
    """Give a new file its size, and reserve blocks on the disk for all of it.

    Without them the system kills the process (SIGBUS) that writes to the mapped file on a full
    disk.
    """
    try:
        if hasattr(os, "posix_fallocate"):  # Linux has it
            os.posix_fallocate(file.fileno(), 0, size)
            return
    except OSError as error:
        if error.errno not in CANNOT_RESERVE:
            raise
    for start in range(0, size, ZEROS_SIZE):
        file.write(bytes(min(ZEROS_SIZE, size - start)))
    file.flush()
