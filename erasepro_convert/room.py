"""Memory for what grows with the number of prompts."""

from tempfile import NamedTemporaryFile

import torch
from torch import Tensor

LARGE = 64 << 20
"""Bytes."""


def room(rows: int, width: int, dtype: torch.dtype) -> Tensor:
    """An uninitialised matrix (rows × width); a large one lies in a temporary file.

    So the system can write it out and memory stays bounded, however many prompts there are.
    """
    if rows * width * dtype.itemsize < LARGE:
        return torch.empty(rows, width, dtype=dtype)
    with NamedTemporaryFile(prefix="erasepro-") as file:  # the mapping outlives it
        file.truncate(rows * width * dtype.itemsize)
        mapped = torch.from_file(file.name, shared=True, size=rows * width, dtype=dtype)
    return mapped.view(rows, width)
