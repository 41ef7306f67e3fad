"""Where a tensor's bytes lie in a file: shapes, strides, offsets.  No torch needed."""

import math
from dataclasses import dataclass
from typing import Literal, TypeGuard

from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.dtypes import BITS

Container = Literal["safetensors", "torch zip", "torch legacy"]
Shape = tuple[int, ...]

DIMENSIONS_LIMIT = 8


@dataclass(frozen=True, slots=True)
class Region:
    """A storage's bytes in a file, and their CRC-32 where the file states one."""

    start: int
    size: int
    crc: int | None = None


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a checkpoint.

    ``offset`` is the file position in bytes of its first element, ``stride`` counts elements;
    ``region`` is the storage that it lies in.
    """

    dtype: str
    shape: Shape
    stride: Shape
    offset: int
    region: Region

    def __post_init__(self) -> None:
        """Raise CheckpointError where torch could not count: an empty tensor can hide that."""
        if math.prod(size for size in self.shape if size) >= 2**63:
            raise CheckpointError("it has a tensor whose shape is too large")

    @property
    def nbytes(self) -> int:
        """Bytes of the values, densely packed."""
        return math.prod(self.shape) * BITS[self.dtype] // 8

    @property
    def contiguous(self) -> bool:
        """Whether the values lie packed in row-major order, as safetensors wants them."""
        return math.prod(self.shape) == 0 or all(
            have == want
            for size, have, want in zip(
                self.shape, self.stride, dense_stride(self.shape), strict=True
            )
            if size != 1
        )

    @property
    def extent(self) -> int:
        """Bytes from the first element's start to the last element's end."""
        if math.prod(self.shape) == 0:
            return 0
        last = sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        return (last + 1) * BITS[self.dtype] // 8

    @property
    def fills_region(self) -> bool:
        """Whether its storage holds this tensor and nothing else."""
        return self.offset == self.region.start and self.extent == self.region.size


def is_count(value: object) -> TypeGuard[int]:
    """Whether ``value`` is a number that torch could count with."""
    return type(value) is int and 0 <= value < 2**63


def dense_stride(shape: Shape) -> Shape:
    """Row-major strides, in elements."""
    stride: list[int] = []
    step = 1
    for size in reversed(shape):
        stride.append(step)
        step *= size
    return tuple(reversed(stride))


@dataclass(frozen=True, slots=True)
class StorageRecord:
    """A storage that a pickle names: its key in the container, dtype and number of elements."""

    key: str
    dtype: str
    numel: int

    @property
    def nbytes(self) -> int:
        """Bytes of the whole storage."""
        return self.numel * BITS[self.dtype] // 8


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """A tensor that a pickle describes: a view of a storage; offset and stride in elements."""

    storage: StorageRecord
    dtype: str
    offset: int
    shape: Shape
    stride: Shape

    def locate(self, name: str, region: Region) -> TensorInfo:
        """The tensor's place in the file, given its storage's.

        Raises CheckpointError when the view reaches outside of the storage, or shows more values
        than the storage has (a short file could ask for any amount of memory so).
        """
        skipped = self.offset * BITS[self.dtype] // 8
        info = TensorInfo(self.dtype, self.shape, self.stride, region.start + skipped, region)
        end = skipped + max(info.extent, info.nbytes)
        if end > self.storage.nbytes:
            raise CheckpointError(
                f"{name} reaches outside of its storage "
                f"({end} bytes needed, {self.storage.nbytes} there)"
            )
        return info


@dataclass(frozen=True)
class Contents:
    """What a parser found.

    Tensors by name, text metadata, why each entry that is no tensor is left out, and what the
    file's pickles ask for.
    """

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    others: dict[str, str]
    asks_for: tuple[str, ...] = ()
