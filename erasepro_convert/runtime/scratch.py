"""Room for what grows with the number of prompts, and for files that are needed for a moment."""

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

LARGE = 64 << 20
"""Bytes."""
PIECE = 1 << 20
"""Bytes of zeros that are written at once."""
CANNOT_RESERVE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
"""What posix_fallocate says where the file system or the system has no such thing."""


def scratch_matrix(rows: int, width: int, dtype: "torch.dtype") -> "Tensor":
    """An uninitialised matrix (rows × width); a large one lies in a temporary file.

    So the system can write it out and memory stays bounded, however many prompts there are.
    Raises EraseproError where the folder for temporary files has too little room.
    """
    import torch

    size = rows * width * dtype.itemsize
    if size < LARGE:
        return torch.empty(rows, width, dtype=dtype)
    with temporary_file() as file:  # the mapping outlives it
        _reserve(file, size)
        mapped = torch.from_file(file.name, shared=True, size=rows * width, dtype=dtype)
    return mapped.view(rows, width)


@contextmanager
def temporary_file() -> Iterator[BinaryIO]:
    """A file with a name, which is gone after the block.

    Raises EraseproError, which names the folder for temporary files, where the system refuses to
    make, fill or map it.
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
    """Give a new file its size, and blocks for all of it.

    Who writes to a mapped hole on a full disk is killed by the system (SIGBUS).
    """
    try:
        if hasattr(os, "posix_fallocate"):  # Linux has it
            os.posix_fallocate(file.fileno(), 0, size)
            return
    except OSError as error:
        if error.errno not in CANNOT_RESERVE:
            raise
    for start in range(0, size, PIECE):
        file.write(bytes(min(PIECE, size - start)))
    file.flush()
