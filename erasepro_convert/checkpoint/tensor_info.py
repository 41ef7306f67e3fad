"""Where a tensor's bytes lie in a file: shapes, strides, offsets.  This needs no torch."""

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
    """The position of a storage's bytes in a file, and their CRC-32 where the file states one."""

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
        """Raise CheckpointError for a shape that is too large for torch, even if a size is 0."""
        if math.prod(size for size in self.shape if size) >= 2**63:
            raise CheckpointError("it has a tensor whose shape is too large")

    @property
    def nbytes(self) -> int:
        """The bytes of the values, densely packed."""
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
        """The bytes from the first element's start to the last element's end."""
        if math.prod(self.shape) == 0:
            return 0
        last = sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        return (last + 1) * BITS[self.dtype] // 8

    @property
    def fills_region(self) -> bool:
        """Whether its storage holds this tensor and nothing else."""
        return self.offset == self.region.start and self.extent == self.region.size


def is_count(value: object) -> TypeGuard[int]:
    """Whether ``value`` is an integer that torch accepts as a size, stride or offset."""
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
    """A storage that a pickle refers to: its key in the container, dtype and number of elements."""

    key: str
    dtype: str
    numel: int

    @property
    def nbytes(self) -> int:
        """The bytes of the whole storage."""
        return self.numel * BITS[self.dtype] // 8


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """A tensor that a pickle describes: a view of a storage.  Offset and stride count elements."""

    storage: StorageRecord
    dtype: str
    offset: int
    shape: Shape
    stride: Shape

    def locate(self, name: str, region: Region) -> TensorInfo:
        """Return the tensor's position in the file, given its storage's position.

        Raises CheckpointError when the view reaches outside of the storage, or has more values than
        the storage (otherwise a short file could ask for any amount of memory).
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
class ParsedFile:
    """What a parser found in a file.

    ``skipped`` gives the reason why each entry that is no tensor is left out; ``pickle_globals``
    are the classes and functions that the file's pickles name.
    """

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    skipped: dict[str, str]
    pickle_globals: tuple[str, ...] = ()
