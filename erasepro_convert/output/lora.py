"""A LoRA of changed matrices: each change as the product of two factors, in kohya's names.

m × d is the shape of a matrix, r the rank of its factors.  The singular value decomposition gives
the best factors of each rank (Eckart and Young, 1936).  Loaders multiply a product by alpha / r.
Alpha is the same for all matrices, whatever their ranks: diffusers mistakes the names of alphas
that differ, and takes the most frequent one.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from erasepro_convert.manifest import LoraLoss
from erasepro_convert.output.safetensors_writer import OutputTensor, WeightFile
from erasepro_convert.runtime.dtypes import dtype_code, packed
from erasepro_convert.sd1.keys import TEXT
from erasepro_convert.sd1.kohya import kohya_names

INERT = f"{TEXT}encoder.layers.0.self_attn.out_proj.weight"
"""diffusers takes a text encoder's part for one of kohya's form if some output projection is in it,
as in all that is trained; else it fails.  So a LoRA gets one that is zero."""


@dataclass(frozen=True)
class Factors:
    """up (m × r) and down (r × d) of a change Δ, and alpha: Δ is about (alpha / r) up·down.

    ``norm`` is ‖Δ‖ and ``error`` that of the product, in float64, with the factors as they are
    stored.  ``is_exact`` says that it is no more than rounding the changed matrix may cause.
    """

    up: Tensor
    down: Tensor
    alpha: int
    norm: float
    error: float
    is_exact: bool

    @property
    def rank(self) -> int:
        """The rank r."""
        return len(self.down)

    @property
    def product(self) -> Tensor:
        """What a loader adds to the matrix, in float64."""
        return self.alpha / self.rank * self.up.double() @ self.down.double()


def largest_rank(shape: Sequence[int], limit: int | None) -> int:
    """Return the largest rank for a matrix (m × d): m·d / (m + d), or ``limit`` if that is less.

    From there on the factors would be larger than the matrix.
    """
    rank = max(1, math.prod(shape) // sum(shape))
    return min(rank, limit or rank)


def factorise(original: Tensor, stored: Tensor, alpha: int, limit: int | None = None) -> Factors:
    """Return factors of the change from ``original`` to ``stored`` (both m × d).

    Factors have the type of the stored matrix (float32 for float64).  The rank is the least at
    which what is missing is half of what rounding the matrix to that type may cause; the other half
    is left to the rounding of the factors.  It is at most ``largest_rank`` with this ``limit``.
    """
    dtype = torch.float32 if stored.dtype == torch.float64 else stored.dtype
    rounding = torch.finfo(dtype).eps / 2 * float(stored.double().norm())
    change = stored.double() - original.double()
    u, s, v = torch.linalg.svd(change, full_matrices=False)
    missing = s.square().flip(0).cumsum(0).flip(0).sqrt()  # at rank 0, 1, …
    needed = max(1, int((missing > rounding / 2).sum()))
    rank = min(needed, largest_rank(change.shape, limit))
    root = (s[:rank] * rank / alpha).sqrt()  # in both factors alike: small types lack range
    factors = (u[:, :rank] * root).to(dtype), (root[:, None] * v[:rank]).to(dtype)
    pair = Factors(*factors, alpha, float(change.norm()), math.inf, is_exact=False)
    error = float((pair.product - change).norm())
    return replace(pair, error=error, is_exact=error <= rounding)


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
    """Return the LoRA to write, of factors by the original names of their matrices."""
    pairs = {name: (pair.up, pair.down, pair.alpha) for name, pair in factors.items()}
    text = [pair for name, pair in factors.items() if name.startswith(TEXT)]
    if text:
        width, zeros = text[0].down.shape[1], text[0].down.new_zeros
        pairs[INERT] = zeros(width, 1), zeros(1, width), text[0].alpha
    tensors = {}
    for name, (up, down, alpha) in pairs.items():
        module = kohya_names()[name]
        tensors[f"{module}.alpha"] = torch.tensor(float(alpha))  # in float32, which holds each
        tensors[f"{module}.lora_down.weight"] = down
        tensors[f"{module}.lora_up.weight"] = up
    return WeightFile([_output_tensor(name, tensors[name]) for name in sorted(tensors)], metadata)


def _output_tensor(name: str, tensor: Tensor) -> OutputTensor:
    shape = tuple(tensor.shape)
    return OutputTensor(
        name, dtype_code(tensor.dtype), shape, tensor.nbytes, partial(_bytes, tensor), (name, shape)
    )


def _bytes(tensor: Tensor) -> Iterator[memoryview]:
    yield packed(tensor)
