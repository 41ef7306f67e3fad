"""Closed forms: one factorisation of X, applied to as many matrices as share it.

Features are columns: X (d × n) of the target in the current model, Y (d × n) of the anchor in the
original one, W_o (m × d).  With the thin SVD X = U·diag(s)·Vᵀ every update here is

    W* − W_o = W_o(Y − X) · V · diag(f(s)) · Uᵀ

and the methods differ in the spectrum f alone.  No inverse is formed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

RANK_CUTOFF = 1e-10
"""Singular values of X below this fraction of the largest count as zero."""

Spectrum = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Factor:
    """Thin SVD of X without its zero singular values: u (d × r), s (r) descending, v (n × r)."""

    u: Tensor
    s: Tensor
    v: Tensor

    @property
    def rank(self) -> int:
        """Rank of X."""
        return len(self.s)

    @property
    def condition(self) -> float:
        """Largest over smallest of the singular values that are kept."""
        return float(self.s[0] / self.s[-1])


def factorise(x: Tensor) -> Factor:
    """Factor X (d × n, float64, finite, not zero)."""
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    keep = s > RANK_CUTOFF * s[0]
    return Factor(u[:, keep], s[keep], vt[keep].T)


def pseudo_inverse(s: Tensor) -> Tensor:
    """1/s: X⁺, the least update with zero residual (ErasePro, Eq. 5)."""
    return 1 / s


def ridge(s: Tensor) -> Tensor:
    """s/(s² + 1): Xᵀ(XXᵀ + I)⁻¹, the trade-off of UCE (Eq. 2, rewritten as an update in Eq. 6)."""
    return s / (s * s + 1)


def update(change: Tensor, factor: Factor, spectrum: Spectrum) -> Tensor:
    """W* − W_o (m × d), where ``change`` is W_o(Y − X) (m × n)."""
    return (change @ factor.v) * spectrum(factor.s) @ factor.u.T
