"""Closed forms: one factorisation of X, applied to as many matrices as share it.

Features are columns: X (d × n) of the target in the current model, Y (d × n) of the anchor in the
original one, W_o (m × d).  The change Δ is least in the norm ‖ΔC^½‖, where C (d × d) says how much
each direction of feature space is used by what must stay; C = I is the paper's norm.  With
C = LLᵀ and the thin SVD L⁻¹X = U·diag(s)·Vᵀ every update here is

    Δ = W_o(Y − X) · V · diag(f(s)) · UᵀL⁻¹

and the methods differ in the spectrum f alone.  No inverse is formed.

- f = 1/s: zero residual (ErasePro, Eq. 5).
- f = s/(s² + ε): the least change whose relative residual is at most a tolerance; ε is a matter of
  the matrix.  ε → 0 is Eq. 5.
- f = s/(s² + 1): UCE (Eq. 2, rewritten as an update in Eq. 6).

The null-space solve is UCE's with Bᵀ in L⁻¹'s place, B (d × k) an orthonormal basis of what
retained prompts hardly use.  Δ then reads nothing else.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import torch
from torch import Tensor

RANK_CUTOFF = 1e-10
"""Singular values of L⁻¹X below this fraction of the largest count as zero."""

BISECTIONS = 60

Spectrum = Callable[[Tensor, Tensor, float], Tensor]
"""Gives f(s) (r) from the singular values s (r), the squared norms of the columns of the projected
residual W_o(Y − X)V (r), and ‖W_oY‖."""


@dataclass(frozen=True)
class Factor:
    """Thin SVD of L⁻¹X without zero singular values, and UᵀL⁻¹.

    ``s`` (r) descends, ``v`` is n × r, ``reader`` is r × d.
    """

    s: Tensor
    v: Tensor
    reader: Tensor

    @cached_property
    def triangle(self) -> Tensor:
        """T (r × r) of ``reader`` = TQ, where Q has orthonormal rows."""
        upper: Tensor = torch.linalg.qr(self.reader.T, mode="r").R
        return upper.T

    @property
    def rank(self) -> int:
        """Rank of X."""
        return len(self.s)

    @property
    def condition(self) -> float:
        """Largest over smallest of the singular values that are kept."""
        return float(self.s[0] / self.s[-1])


@dataclass(frozen=True)
class Columns:
    """X and Y (d × n), or what stands for them where n is above d.

    With an orthonormal n × k matrix Q whose columns span the rows of X and Y, X·Q and Y·Q do for
    them: W·X and W·X·Q have the same norm, so every update, rank, condition and residual is the
    same, and k is at most 2d.  Q is chosen so that X·Q is zero beyond its first d columns: ``x``
    and ``y`` (d × min(n, d)) are the first, ``rest`` is what Y has beyond.
    """

    x: Tensor
    y: Tensor
    rest: Tensor

    @classmethod
    def of(cls, parts: Iterable[tuple[Tensor, Tensor]], count: int) -> "Columns":
        """Compress X and Y, which come in parts and have ``count`` columns in all.

        This is a QR decomposition, part by part.  The Gram matrices XXᵀ and YXᵀ would do as well,
        but squaring X loses half of the digits, and all digits of singular values below 1e-8 of the
        largest.
        """
        pairs = iter(parts)
        first = next(pairs)
        d = len(first[0])
        if count <= d:
            xs, ys = zip(first, *pairs, strict=True)
            return cls(torch.cat(xs, dim=1), torch.cat(ys, dim=1), first[0].new_empty(d, 0))
        r = first[0].new_empty(0, 2 * d)
        for pair in chain([first], pairs):
            r = torch.linalg.qr(torch.cat([r, torch.cat(pair).T]), mode="r").R
        return cls(r[:d, :d].T, r[:d, d:].T, r[d:, d:].T)

    @cached_property
    def anchor_root(self) -> Tensor:
        """A matrix R (d × at most d) with ‖WR‖ = ‖WY‖ for every W."""
        if not self.rest.numel():
            return self.y
        upper: Tensor = torch.linalg.qr(torch.cat([self.y, self.rest], dim=1).T, mode="r").R
        return upper.T


def _moment(features: Iterable[Tensor]) -> Tensor:
    """M (d × d): the second moment of ``features`` (d × k, in parts), scaled to mean diagonal 1."""
    moment = sum((part @ part.T for part in features), torch.zeros(()))
    return moment / moment.diagonal().mean()


def retain_norm(features: Iterable[Tensor], weight: float) -> Tensor:
    """L of C = I + weight · M, M the second moment of ``features`` scaled to mean diagonal 1.

    ``features`` (d × k, in parts) are what must stay.  Lower triangular, d × d.
    """
    moment = _moment(features)
    eye = torch.eye(len(moment), dtype=moment.dtype)
    lower: Tensor = torch.linalg.cholesky(eye + weight * moment)
    return lower


def factorise(x: Tensor, norm: Tensor | None = None) -> Factor:
    """Factor X (d × n, float64, finite, not zero) in the norm of L (None: the identity)."""
    whitened = x if norm is None else torch.linalg.solve_triangular(norm, x, upper=False)
    u, s, vt = torch.linalg.svd(whitened, full_matrices=False)
    keep = s > RANK_CUTOFF * s[:1]
    reader = u[:, keep].T
    if norm is not None:
        reader = torch.linalg.solve_triangular(norm, reader, upper=False, left=False)
    return Factor(s[keep], vt[keep].T, reader)


Factorisation = Callable[[Tensor, Sequence[Tensor], float], Factor]
"""Factors X, given retained features (d × k, in parts, or none) and their weight λ."""


def weighted_factor(x: Tensor, retained: Sequence[Tensor], weight: float) -> Factor:
    """Factor X in the norm of C = I + λM; without retained features in the plain norm."""
    return factorise(x, retain_norm(retained, weight) if retained else None)


def null_space_factor(x: Tensor, retained: Sequence[Tensor], weight: float) -> Factor:
    """Factor what X has in the directions that retained prompts hardly use.

    Those directions are the eigenvectors of M with eigenvalues below 1 / ``weight``, as in SPEED
    (Li et al., ICLR 2026), whose threshold is 0.1 on the moment unscaled.  Without retained
    features X is factored whole.
    """
    if not retained:
        return factorise(x)
    values, vectors = torch.linalg.eigh(_moment(retained))
    basis = vectors[:, weight * values < 1]
    factor = factorise(basis.T @ x)
    return Factor(factor.s, factor.v, factor.reader @ basis.T)


def pseudo_inverse(s: Tensor, squares: Tensor, anchor_norm: float) -> Tensor:
    """1/s: X⁺, the least update with zero residual (ErasePro, Eq. 5)."""
    del squares, anchor_norm
    return 1 / s


def ridge(s: Tensor, squares: Tensor, anchor_norm: float) -> Tensor:
    """s/(s² + 1): Xᵀ(XXᵀ + I)⁻¹, the trade-off of UCE (Eq. 2, rewritten as an update in Eq. 6)."""
    del squares, anchor_norm
    return s / (s * s + 1)


def within(tolerance: float) -> Spectrum:
    """s/(s² + ε) with the largest ε whose residual is at most ``tolerance``·‖W_oY‖.

    Only the part of the residual that an update can change is counted: where columns conflict, the
    rest stays whatever ε is.  Residual² = Σᵢ (ε/(sᵢ² + ε))²‖W_o(Y − X)vᵢ‖².
    """

    def spectrum(s: Tensor, squares: Tensor, anchor_norm: float) -> Tensor:
        s_squared, allowed = s * s, (tolerance * anchor_norm) ** 2

        def residual(epsilon: float) -> float:
            return float(((epsilon / (s_squared + epsilon)) ** 2 * squares).sum())

        if float(squares.sum()) <= allowed:  # it holds already: nothing to change
            return torch.zeros_like(s)
        low, high = float(s_squared[-1]) * 1e-20, float(s_squared[0]) * 1e20
        for _ in range(BISECTIONS):
            middle = math.sqrt(low * high)  # ε spans magnitudes
            low, high = (middle, high) if residual(middle) <= allowed else (low, middle)
        return s / (s_squared + low)

    return spectrum


@dataclass(frozen=True)
class Form:
    """A closed form: how X is factored, and what is made of its singular values."""

    spectrum: Spectrum
    factor: Factorisation = weighted_factor


def update(residual: Tensor, anchor_norm: float, factor: Factor, spectrum: Spectrum) -> Tensor:
    """Δ = W* − W_o (m × d).

    ``residual`` is the projected residual W_o(Y − X)V (m × r), ``anchor_norm`` is ‖W_oY‖.
    """
    return _coefficients(residual, anchor_norm, factor, spectrum) @ factor.reader


def update_norm(residual: Tensor, anchor_norm: float, factor: Factor, spectrum: Spectrum) -> float:
    """‖Δ‖ for the arguments of ``update``, without making Δ."""
    coefficients = _coefficients(residual, anchor_norm, factor, spectrum)
    return float(torch.linalg.matrix_norm(coefficients @ factor.triangle))


def _coefficients(
    residual: Tensor, anchor_norm: float, factor: Factor, spectrum: Spectrum
) -> Tensor:
    """Δ in the basis of the factor's reader (m × r)."""
    squares = (residual * residual).sum(0)
    coefficients: Tensor = residual * spectrum(factor.s, squares, anchor_norm)
    return coefficients
