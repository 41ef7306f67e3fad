"""A LoRA of changed matrices: each change as the product of two factors, in kohya's names.

m × d is the shape of a matrix, r the rank of its factors.  The singular value decomposition gives
the best factors of each rank (Eckart and Young, 1936).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from erasepro_convert.manifest import LoraLoss
from erasepro_convert.output.safetensors_writer import OutputTensor, WeightFile
from erasepro_convert.runtime.dtypes import dtype_code, packed
from erasepro_convert.sd1.kohya import kohya_names


@dataclass(frozen=True)
class Factors:
    """up (m × r) and down (r × d), whose product is a change Δ, as far as ``error`` says.

    ``norm`` is ‖Δ‖ and ``error`` ‖up·down − Δ‖, in float64, with the factors as they are stored.
    ``is_exact`` says that the error is no more than rounding the changed matrix may cause.
    """

    up: Tensor
    down: Tensor
    norm: float
    error: float
    is_exact: bool

    @property
    def rank(self) -> int:
        """The rank r."""
        return len(self.down)

    def applied_to(self, original: Tensor) -> Tensor:
        """Return W_o + up·down in float64."""
        return original.double() + self.up.double() @ self.down.double()


def factorise(original: Tensor, stored: Tensor, largest_rank: int | None = None) -> Factors:
    """Return factors of the change from ``original`` to ``stored`` (both m × d).

    Factors have the type of the stored matrix (float32 for float64).  The rank is the least at
    which what is missing is half of what rounding the matrix to that type may cause; the other half
    is left to the rounding of the factors.  It is at most ``largest_rank``, and at most
    m·d / (m + d), from where on the factors would be larger than the matrix.
    """
    dtype = torch.float32 if stored.dtype == torch.float64 else stored.dtype
    rounding = torch.finfo(dtype).eps / 2 * float(stored.double().norm())
    change = stored.double() - original.double()
    u, s, v = torch.linalg.svd(change, full_matrices=False)
    missing = s.square().flip(0).cumsum(0).flip(0).sqrt()  # at rank 0, 1, …
    rows, columns = change.shape
    needed = int((missing > rounding / 2).sum())
    rank = max(1, min(needed, largest_rank or needed, rows * columns // (rows + columns)))
    root = s[:rank].sqrt()  # in both factors alike: small types have no room for more
    up, down = (u[:, :rank] * root).to(dtype), (root[:, None] * v[:rank]).to(dtype)
    error = float((up.double() @ down.double() - change).norm())
    return Factors(up, down, float(change.norm()), error, error <= rounding)


def loss_of(factors: Mapping[str, Factors]) -> LoraLoss:
    """Return what is missing in all factors, by the original names of their matrices."""
    shares = {name: pair.error / (pair.norm or 1.0) for name, pair in factors.items()}
    worst = max(shares, key=lambda name: shares[name])
    error = math.hypot(*(pair.error for pair in factors.values()))
    norm = math.hypot(*(pair.norm for pair in factors.values()))
    return LoraLoss(
        matrices=len(factors),
        exact=sum(pair.is_exact for pair in factors.values()),
        rank=max(pair.rank for pair in factors.values()),
        worst=shares[worst],
        worst_matrix=worst,
        overall=error / (norm or 1.0),
    )


def lora_file(factors: Mapping[str, Factors], metadata: Mapping[str, str]) -> WeightFile:
    """Return the LoRA to write.

    Loaders multiply a product by alpha / r.  Alpha is r, in float32, which holds every rank.
    """
    tensors = {}
    for name, pair in factors.items():
        module = kohya_names()[name]
        tensors[f"{module}.alpha"] = torch.tensor(float(pair.rank))
        tensors[f"{module}.lora_down.weight"] = pair.down
        tensors[f"{module}.lora_up.weight"] = pair.up
    return WeightFile([_output_tensor(name, tensors[name]) for name in sorted(tensors)], metadata)


def _output_tensor(name: str, tensor: Tensor) -> OutputTensor:
    shape = tuple(tensor.shape)
    return OutputTensor(
        name, dtype_code(tensor.dtype), shape, tensor.nbytes, partial(_bytes, tensor), (name, shape)
    )


def _bytes(tensor: Tensor) -> Iterator[memoryview]:
    yield packed(tensor)
