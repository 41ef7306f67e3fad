"""ErasePro's closed form and those that differ from it in their spectrum: see ``closed_form``."""

from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from erasepro_convert.erase.calibration import Calibrated, Calibration
from erasepro_convert.erase.closed_form import (
    Factor,
    Factorisation,
    Spectrum,
    unchanged,
    update,
    update_norm,
    weighted_factor,
)
from erasepro_convert.erase.form import Form
from erasepro_convert.erase.read_features import Read
from erasepro_convert.errors import LimitError
from erasepro_convert.language.moments import with_constant
from erasepro_convert.manifest import CalibrationRecord


def spectral_form(
    spectrum: Spectrum | None,
    factorisation: Factorisation = weighted_factor,
    *,
    of_difference: bool = False,
) -> Form:
    """Return the form of a spectrum f(s); None calibrates each matrix.

    ``of_difference`` factors X − Y in place of X.
    """
    knows_language = factorisation is weighted_factor
    return Form(
        partial(SpectralSolver, spectrum, factorisation, of_difference),
        calibrates=spectrum is None,
        knows_language=knows_language,
        knows_constant=knows_language,
    )


class SpectralSolver:
    """A factor of X, or of X − Y, and the spectrum of each matrix that reads it.

    Raises LimitError when no change is allowed.
    """

    def __init__(
        self,
        spectrum: Spectrum | None,
        factorisation: Factorisation,
        of_difference: bool,
        read: Read,
        up_to_constant: bool,
    ) -> None:
        d = len(read.xy.x) - read.has_constant
        columns = read.xy if up_to_constant else read.xy.rows(d)
        solved = columns.x
        self._difference: Tensor | None = None
        if of_difference:
            solved = torch.cat([columns.x - columns.y, -columns.rest], dim=1)
            self._difference = -solved[:d]
        precision = read.problem.form.precision
        retained = read.with_anchors if of_difference else read.retained
        factor = factorisation(solved.double(), retained, precision)
        if not factor.rank:
            raise LimitError(
                f"{read.label}: the retained prompts use all that the targets do, which leaves "
                "nothing to change; retain fewer of them, or with less weight"
            )
        self._spectrum, self._calibration = spectrum, None
        if spectrum is None:
            augment = with_constant if up_to_constant else unchanged
            self._calibration = Calibration(
                factor, read.calibration, augment, read.problem.strength
            )
        v, reader = factor.v.to(precision), factor.reader[:, :d].to(precision)
        self.factor = Factor(factor.s, v, reader)
        self.rank, self.condition = self.factor.rank, self.factor.condition

    def solve(self, w_o: Tensor, before: Tensor) -> "SpectralSolution":
        """Solve one matrix W_o (m × d), given W_o(Y − X) (m × n)."""
        gap = before if self._difference is None else w_o @ self._difference
        residual = gap @ self.factor.v
        if self._calibration:
            calibrated = self._calibration.choose(w_o, residual)
            return SpectralSolution(self.factor, residual, calibrated.spectrum, calibrated)
        assert self._spectrum
        spectrum = self._spectrum(self.factor.s, (residual * residual).sum(0))
        return SpectralSolution(self.factor, residual, spectrum, None)


@dataclass(frozen=True)
class SpectralSolution:
    """The projected residual A = W_o(Y − X)V (m × r) of a matrix, and its f(s) (r)."""

    factor: Factor
    residual: Tensor
    spectrum: Tensor
    calibrated: Calibrated | None

    @cached_property
    def delta(self) -> Tensor:
        """Δ = W* − W_o (m × d)."""
        return update(self.residual, self.factor, self.spectrum.to(self.residual.dtype))

    @property
    def norm(self) -> float:
        """‖Δ‖ before it is rounded."""
        return update_norm(self.residual, self.factor, self.spectrum.to(self.residual.dtype))

    @property
    def calibration(self) -> CalibrationRecord | None:
        """ε as a share of the largest s², and what it came to on calibration prompts."""
        if not self.calibrated:
            return None
        return CalibrationRecord(
            regularisation=self.calibrated.epsilon / float(self.factor.s[0]) ** 2,
            leak=self.calibrated.leak,
            drift=self.calibrated.drift,
        )
