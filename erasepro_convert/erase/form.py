"""What a closed form is: how matrices are solved that read the same columns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from erasepro_convert.manifest import CalibrationRecord

if TYPE_CHECKING:
    from erasepro_convert.erase.read_features import Read


class Solution(Protocol):
    """The update of one matrix."""

    @property
    def delta(self) -> Tensor:
        """Δ = W* − W_o (m × d)."""

    @property
    def norm(self) -> float:
        """‖Δ‖ before it is rounded."""

    @property
    def calibration(self) -> CalibrationRecord | None:
        """How the matrix was calibrated; None where it was not."""


class Solver(Protocol):
    """Columns that some matrices read, made ready for all of them."""

    @property
    def rank(self) -> int:
        """Rank of what is solved for."""

    @property
    def condition(self) -> float:
        """Largest over smallest of its singular values that are not zero."""

    def solve(self, w_o: Tensor, before: Tensor) -> Solution:
        """Solve one matrix W_o (m × d), given W_o(Y − X) (m × n)."""


@dataclass(frozen=True)
class Form:
    """A closed form.

    ``solver`` makes columns ready; its second argument says that a solution may leave out what is
    the same for all features (see ``matrix_edit.FactoredColumns``), which forms without
    ``knows_constant`` are never asked for.  ``calibrates`` forms read the calibration's prompts,
    ``knows_language`` forms the moments of common language, ``reads_empty_prompt`` forms the empty
    prompt.
    """

    solver: Callable[["Read", bool], Solver]
    calibrates: bool = False
    knows_language: bool = False
    knows_constant: bool = False
    reads_empty_prompt: bool = False

    @property
    def precision(self) -> torch.dtype:
        """The dtype that features are computed in.

        Where a matrix is calibrated, what rounding adds to features counts as drift on its
        calibration prompts, so that float32 does; an exact solve would amplify it.
        """
        return torch.float32 if self.calibrates else torch.float64
