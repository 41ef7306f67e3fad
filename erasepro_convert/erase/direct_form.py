"""Forms that are functions of each matrix, without a spectrum of their own."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from erasepro_convert.erase.closed_form import RANK_CUTOFF
from erasepro_convert.erase.form import Form
from erasepro_convert.erase.read_features import Read

Update = Callable[[Tensor], Tensor]
"""Gives Δ (m × d) of a matrix W_o (m × d)."""


def direct_form(prepare: Callable[[Read], Update], **reads: bool) -> Form:
    """Return the form whose update ``prepare`` makes of columns; ``reads`` is what ``Form`` has."""
    return Form(partial(DirectSolver, prepare), **reads)


def product_form(product: Callable[[Read], Tensor], **reads: bool) -> Form:
    """Return the form of updates Δ = WM, where ``product`` gives M (d × d) for all matrices."""

    def prepare(read: Read) -> Update:
        m = product(read)
        return lambda w: w @ m

    return direct_form(prepare, **reads)


class DirectSolver:
    """The update of each matrix that reads some columns."""

    def __init__(self, prepare: Callable[[Read], Update], read: Read, up_to_constant: bool) -> None:
        assert not up_to_constant
        values = torch.linalg.svdvals(read.xy.x)
        kept = values[values > RANK_CUTOFF[values.dtype] * values[:1]]
        self.rank, self.condition = len(kept), float(kept[0] / kept[-1])
        self._update = prepare(read)

    def solve(self, w_o: Tensor, before: Tensor) -> "DirectSolution":
        """Solve one matrix W_o (m × d)."""
        del before
        return DirectSolution(self._update, w_o)


@dataclass(frozen=True)
class DirectSolution:
    """The update of one matrix W_o, computed when it is asked for; it is not calibrated."""

    update: Update
    w_o: Tensor
    calibration: None = None

    @cached_property
    def delta(self) -> Tensor:
        """Δ = W* − W_o (m × d)."""
        return self.update(self.w_o)

    @property
    def norm(self) -> float:
        """‖Δ‖ before it is rounded."""
        return float(torch.linalg.matrix_norm(self.delta))
