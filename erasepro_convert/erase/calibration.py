"""The regularisation of each matrix, chosen on prompts that are not solved for.

An update Δ(ε) = W_o(Y − X) · V · diag(f(s)) · UᵀL⁻¹ with f = s/(s² + ε) goes from the exact solve
(ε → 0) to none at all (ε → ∞).  What suits a matrix is found on calibration prompts: the ε with the
least

    strength · leak⁴ + drift²

of the matrix's own outputs.  With T the features of target prompts that the matrix reads, Y those
of their anchors, O those of other prompts (T_o, O_o: in the original)

    leak²  = ‖(W_o + Δ)T − W_oY‖² / ‖W_o(T_o − Y)‖²
    drift² = ‖(W_o + Δ)O − W_oO_o‖² / ‖W_o(O_o − mean of O_o)‖²

summed over all feeds.  Both are shares of what there was and count what earlier layers did.  An
affine change of features that no picture shows changes neither.

For A = W_o(Y − X)V and G = UᵀL⁻¹T, ‖A·diag(f)·G + B‖² = fᵀ(AᵀA ∘ GGᵀ)f + 2·fᵀdiag(G·Bᵀ·A) + ‖B‖²
is quadratic in f, so many ε cost little more than one.

Leak counts by its fourth power: a target that is most of the way to its anchor is drawn as the
anchor, and to bring it nearer changes others for nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from erasepro_convert.erase.closed_form import Factor

SMALLEST, LARGEST, STEPS_PER_DECADE = -12, 6, 4
"""The ε that are tried: powers of ten times the largest s², and the steps between."""


@dataclass(frozen=True)
class CalibrationFeatures:
    """Features of calibration prompts with one feed, as columns.

    ``target`` and ``other`` are what the matrices read, ``target_original``, ``anchor`` and
    ``other_original`` what they read in the original.
    """

    target: Tensor
    target_original: Tensor
    anchor: Tensor
    other: Tensor
    other_original: Tensor


@dataclass(frozen=True)
class Calibrated:
    """The spectrum f(s) (r) that was chosen, its ε, and the root mean squares that it came to."""

    spectrum: Tensor
    epsilon: float
    leak: float
    drift: float


@dataclass(frozen=True)
class _Share:
    """‖A·diag(f)·G + B‖² / unit² for the matrix W_o, over all feeds: B is what was there before.

    ``gram`` is GGᵀ (r × r, float64), ``slope`` is G times the features of B, transposed (r × d).
    The features ``before`` and ``unit`` (d × n) only give norms.
    """

    gram: Tensor
    slope: Tensor
    before: Tensor
    unit: Tensor

    @classmethod
    def of(cls, factor: Factor, feeds: Iterable[tuple[Tensor, Tensor, Tensor]]) -> "_Share":
        """Take what an update reads (n columns), how features differ from their goal, the unit."""
        parts, befores, units = zip(*feeds, strict=True)
        before = torch.cat(befores, dim=1)
        read = factor.reader.to(before.dtype) @ torch.cat(parts, dim=1)
        slope, moved = read @ before.T, before[:, before.any(0)]
        if all(torch.equal(unit, units[0]) for unit in units):  # one original feeds all
            units = (units[0] * len(units) ** 0.5,)
        gram = (read @ read.T).double()
        return cls(gram, slope, _narrow(moved), _narrow(torch.cat(units, dim=1)))

    def quadratic(
        self, gram: Tensor, inner: Tensor, before: float, unit: float
    ) -> tuple[Tensor, Tensor, float]:
        """The quadratic form in f: its matrix (r × r), half of its slope (r), its constant.

        ``gram`` is AᵀA, ``inner`` is AᵀW_o (r × d), ``before`` and ``unit`` are ‖W_o·‖² of those
        features.
        """
        if not unit:  # this matrix does not see these prompts
            return torch.zeros_like(gram), gram.new_zeros(len(gram)), 0.0
        slope = (self.slope * inner).sum(1).double()
        return gram * self.gram / unit, slope / unit, before / unit


class Calibration:
    """Calibration prompts where some matrices read them, with each feed."""

    def __init__(
        self,
        factor: Factor,
        feeds: Sequence[CalibrationFeatures],
        augment: Callable[[Tensor], Tensor],
        strength: float,
    ) -> None:
        """Take the factor of X, and what was done to features before they became columns of X."""
        self._s = factor.s
        self._strength = strength
        self._leak = _Share.of(
            factor,
            ((augment(f.target), f.target - f.anchor, f.target_original - f.anchor) for f in feeds),
        )
        self._drift = _Share.of(
            factor,
            (
                (augment(f.other), f.other - f.other_original, _centred(f.other_original))
                for f in feeds
            ),
        )
        normed = self._leak.before, self._leak.unit, self._drift.before, self._drift.unit
        self._normed = torch.cat(normed, dim=1)
        self._widths = [part.shape[1] for part in normed]

    def choose(self, w_o: Tensor, a: Tensor) -> Calibrated:
        """Choose ε for W_o (m × d), given the projected residual A = W_o(Y − X)V (m × r).

        Both have the dtype of the features.
        """
        outputs = (w_o @ self._normed).split(self._widths, dim=1)
        squares = [float(part.square().sum()) for part in outputs]
        gram, inner = (a.T @ a).double(), a.T @ w_o
        leak = self._leak.quadratic(gram, inner, *squares[:2])
        drift = self._drift.quadratic(gram, inner, *squares[2:])
        steps = (LARGEST - SMALLEST) * STEPS_PER_DECADE + 1
        scales = torch.logspace(SMALLEST, LARGEST, steps, dtype=self._s.dtype)
        epsilons = self._s[0].square() * scales  # ascending: the last of equals changes least
        spectra = self._s / (self._s.square() + epsilons[:, None])  # (steps, r)
        leaks, drifts = _values(leak, spectra), _values(drift, spectra)
        objective = self._strength * leaks.square() + drifts
        best = steps - 1 - int(objective.flip(0).argmin())
        return Calibrated(
            spectrum=spectra[best],
            epsilon=float(epsilons[best]),
            leak=float(leaks[best].clamp(min=0).sqrt()),
            drift=float(drifts[best].clamp(min=0).sqrt()),
        )


def _narrow(features: Tensor) -> Tensor:
    """At most d columns B for features F (d × n): ‖WB‖ = ‖WF‖ for every W."""
    if features.shape[1] <= len(features):
        return features
    upper: Tensor = torch.linalg.qr(features.T, mode="r").R
    return upper.T


def _centred(features: Tensor) -> Tensor:
    return features - features.mean(1, keepdim=True)


def _values(form: tuple[Tensor, Tensor, float], spectra: Tensor) -> Tensor:
    """The values of a quadratic form at each of some spectra (n × r)."""
    matrix, slope, constant = form
    return ((spectra @ matrix) * spectra).sum(1) + 2 * spectra @ slope + constant
