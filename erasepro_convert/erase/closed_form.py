"""Closed forms: one factorisation of X, applied to as many matrices as share it.

Features are columns: X (d × n) of the target in the current model, Y (d × n) of the anchor in the
original one, W_o (m × d).  The change Δ is least in the norm ‖ΔC^½‖, where C (d × d) says how much
each direction of feature space is used by what must stay; C = I is the paper's norm.  With
C = LLᵀ and the thin SVD L⁻¹X = U·diag(s)·Vᵀ every update here is

    Δ = W_o(Y − X) · V · diag(f(s)) · UᵀL⁻¹

and they differ in the spectrum f.  No inverse is formed.

- f = 1/s: zero residual (ErasePro, Eq. 5).
- f = s/(s² + ε): the least change whose residual is at most a tolerance, or the ε that is best on
  calibration prompts (``calibration``); ε is a matter of the matrix.  ε → 0 is Eq. 5.
- f = s/(s² + 1): UCE (Eq. 2, rewritten as an update in Eq. 6).

The difference projector has the SVD of L⁻¹(X − Y) in the place of that of L⁻¹X.  With f = 1/s its
Δ is −W_o·LUUᵀL⁻¹: whatever tells a target from its anchor is projected out.

The null-space solve is UCE's with Bᵀ in L⁻¹'s place, B (d × k) an orthonormal basis of what
retained prompts hardly use.  Δ then reads nothing else.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import torch
from torch import Tensor

RANK_CUTOFF = {torch.float64: 1e-10, torch.float32: 1e-6}
"""Singular values of L⁻¹X below this fraction of the largest count as zero, by the dtype that
features were computed in: there rounding is all that is left."""

BISECTIONS = 60

RIDGE = 1e-2
"""What is added to C: a share of each channel's variance.  What language never says may move
most, and this bounds by how much."""

FLOOR = 1e-10
"""What is added besides: a share of each channel's second moment, for one that never varies."""

Spectrum = Callable[[Tensor, Tensor], Tensor]
"""Gives f(s) (r) from the singular values s (r) and the squared norms of the columns of the
projected residual W_o(Y − X)V (r)."""


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
        for x, y in chain([first], pairs):
            rows = torch.cat([r, torch.cat([x.T, y.T], dim=1)])  # features are rows in memory
            r = torch.linalg.qr(rows, mode="r").R
        return cls(r[:d, :d].T, r[:d, d:].T, r[d:, d:].T)

    def rows(self, count: int) -> "Columns":
        """The first ``count`` rows of all three."""
        return Columns(self.x[:count], self.y[:count], self.rest[:count])


def moment(features: Iterable[Tensor]) -> Tensor:
    """The mean of f·fᵀ (d × d, float64) over the columns f of ``features`` (d × k, in parts)."""
    total, count = torch.zeros(()), 0
    for part in features:
        total = total + part.double() @ part.double().T
        count += part.shape[1]
    return total / count


def unchanged(features: Tensor) -> Tensor:
    """f, what an update usually reads (d × n)."""
    return features


def retain_norm(retained: "Retained", width: int) -> Tensor:
    """Return L (lower triangular) of C = LLᵀ = language + λ·prompts + a small ridge.

    ``width`` is d for updates that read f, d + 1 for those that read (f, 1).  The ridge is a share
    of what each channel varies by in language: it follows the features, and a constant that is
    added to them does not change it.
    """
    assert retained.language is not None
    second, mean = retained.language, retained.language[:, -1]
    variances = second.diagonal() - mean.square()  # that of the constant is zero
    ridge = RIDGE * variances + FLOOR * second.diagonal()
    c = second + retained.weight * retained.prompts + torch.diag(ridge)
    lower: Tensor = torch.linalg.cholesky(c[:width, :width])
    return lower


def factorise(
    x: Tensor, norm: Tensor | None = None, precision: torch.dtype = torch.float64
) -> Factor:
    """Factor X (d × n, float64, finite, not zero) in the norm of L (None: the identity).

    ``precision`` is the dtype that X was computed in.
    """
    whitened = x if norm is None else torch.linalg.solve_triangular(norm, x, upper=False)
    u, s, vt = torch.linalg.svd(whitened, full_matrices=False)
    keep = s > RANK_CUTOFF[precision] * s[:1]
    reader = u[:, keep].T
    if norm is not None:
        reader = torch.linalg.solve_triangular(norm, reader, upper=False, left=False)
    return Factor(s[keep], vt[keep].T, reader)


@dataclass(frozen=True)
class Retained:
    """What must stay: second moments of retained prompts and of language, and λ.

    Both are moments of (f, 1) (d + 1 × d + 1), so that their last column is the mean.  ``prompts``
    are weighed by λ, ``language`` by 1; a method that retains prompts alone has no language.
    """

    prompts: Tensor
    weight: float
    language: Tensor | None = None


Factorisation = Callable[[Tensor, Retained | None, torch.dtype], Factor]
"""Factors X, given what must stay and the dtype that features were computed in."""


def weighted_factor(x: Tensor, retained: Retained | None, precision: torch.dtype) -> Factor:
    """Factor X in the norm of C = language + λ·prompts; with nothing retained in the plain norm.

    X has d rows, or d + 1 where the last one is constant.

    ‖ΔC^½‖² is the mean of ‖Δf‖² over what is retained: how far its outputs move.
    """
    norm = None if retained is None else retain_norm(retained, len(x))
    return factorise(x, norm, precision)


def null_space_factor(x: Tensor, retained: Retained | None, precision: torch.dtype) -> Factor:
    """Factor what X has in the directions that retained prompts hardly use.

    With M the prompts' moment, scaled to mean diagonal 1, those directions are the eigenvectors
    of M with eigenvalues below 1/λ, as in SPEED (Li et al., ICLR 2026), whose threshold is 0.1 on
    the moment unscaled.  With nothing retained X is factored whole.
    """
    if retained is None:
        return factorise(x, precision=precision)
    second = retained.prompts[:-1, :-1]
    values, vectors = torch.linalg.eigh(second / second.diagonal().mean())
    basis = vectors[:, retained.weight * values < 1]
    factor = factorise(basis.T @ x, precision=precision)
    return Factor(factor.s, factor.v, factor.reader @ basis.T)


def pseudo_inverse(s: Tensor, squares: Tensor) -> Tensor:
    """1/s: X⁺, the least update with zero residual (ErasePro, Eq. 5)."""
    del squares
    return 1 / s


def ridge(s: Tensor, squares: Tensor) -> Tensor:
    """s/(s² + 1): Xᵀ(XXᵀ + I)⁻¹, the trade-off of UCE (Eq. 2, rewritten as an update in Eq. 6)."""
    del squares
    return s / (s * s + 1)


def within(tolerance: float) -> Spectrum:
    """s/(s² + ε) with the largest ε that leaves at most ``tolerance`` of what an update can change.

    What an update can change is ‖W_o(Y − X)V‖; where columns conflict, the rest of the residual
    stays whatever ε is.  Residual² = Σᵢ (ε/(sᵢ² + ε))²‖W_o(Y − X)vᵢ‖².
    """

    def spectrum(s: Tensor, squares: Tensor) -> Tensor:
        s_squared, allowed = s * s, tolerance**2 * float(squares.sum())
        if not allowed:  # nothing to change
            return torch.zeros_like(s)

        def residual(epsilon: float) -> float:
            return float(((epsilon / (s_squared + epsilon)) ** 2 * squares).sum())

        low, high = float(s_squared[-1]) * 1e-20, float(s_squared[0]) * 1e20
        for _ in range(BISECTIONS):
            middle = math.sqrt(low * high)  # ε spans magnitudes
            low, high = (middle, high) if residual(middle) <= allowed else (low, middle)
        return s / (s_squared + low)

    return spectrum


def update(residual: Tensor, factor: Factor, spectrum: Tensor) -> Tensor:
    """Δ = W* − W_o (m × d), from the projected residual W_o(Y − X)V (m × r) and f(s) (r)."""
    return (residual * spectrum) @ factor.reader


def update_norm(residual: Tensor, factor: Factor, spectrum: Tensor) -> float:
    """‖Δ‖ for the arguments of ``update``, without making Δ."""
    return float(torch.linalg.matrix_norm((residual * spectrum) @ factor.triangle))
