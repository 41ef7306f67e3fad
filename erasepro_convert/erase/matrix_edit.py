"""The edit of matrices that read the same features: columns in, stored weights and records out.

m × d is the shape of a matrix, n the number of columns.  Factorisations are in float64.  All else
has the dtype of the features: float32 where matrices are calibrated, since an edit is rounded to
less when it is stored, and float64 in an exact solve.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor

from erasepro_convert.clip.digests import encoder_digest
from erasepro_convert.clip.text_encoder import ReadRows, ReadTensor, TextEncoder
from erasepro_convert.erase.form import Solution
from erasepro_convert.erase.read_features import FeatureDistances, Read, norm, ratio
from erasepro_convert.errors import LimitError
from erasepro_convert.manifest import (
    Change,
    EditRecord,
    Encoder,
    Residual,
)
from erasepro_convert.runtime.dtypes import dtype_code


@dataclass(frozen=True)
class Model:
    """The original weights by name, and the dtype of the output (None: each as it is)."""

    read: ReadTensor
    dtype: torch.dtype | None = None
    rows: ReadRows | None = None

    @cached_property
    def encoder_digest(self) -> str:
        """The digest of the original text encoder's weights."""
        return encoder_digest(self.read)

    def stored(self, name: str) -> Tensor:
        """A weight as the output will hold it if it is not edited."""
        return self.read(name).to(self.dtype)

    def encoder(self, precision: torch.dtype) -> TextEncoder:
        """The original text encoder."""
        return TextEncoder(self.read, precision, self.rows)

    def stored_encoder(self, precision: torch.dtype) -> TextEncoder:
        """The text encoder as the output will hold it if it is not edited."""
        return TextEncoder(self.stored, precision, self.stored_rows if self.rows else None)

    def stored_rows(self, name: str, numbers: Tensor) -> Tensor:
        """ReadRows of a matrix as the output will hold them."""
        assert self.rows
        return self.rows(name, numbers).to(self.dtype)


@dataclass(frozen=True)
class Edit:
    """One edited tensor: its name, the weight to store, the record for the manifest."""

    name: str
    weight: Tensor
    record: EditRecord


EditedWeight = Callable[[str, "AlignmentProblem"], Tensor]
"""Gives the edited weight of the tensor of a name."""


class FactoredColumns:
    """The columns X and Y that some matrices read, made ready once for all of them.

    ``up_to_constant`` is for keys of the cross-attention, where columns have a constant feature.
    What all keys have in common, softmax does not see: W f + c draws what W f does, for any c.  The
    solve has c as a column of its own beside W, that of a constant feature, and it is dropped.  So
    features that have a constant part give no more room than those that have none.

    Raises LimitError when no change is allowed.
    """

    def __init__(self, read: Read, *, up_to_constant: bool = False) -> None:
        d = len(read.xy.x) - read.has_constant
        self.read = read
        self.xy = read.xy.rows(d)
        self.constant = read.xy.x[d:] if up_to_constant else None
        self.solver = read.problem.form.solver(read, up_to_constant)
        self.difference = self.xy.y - self.xy.x

    def update_norm(self, w_o: Tensor) -> float:
        """‖Δ‖ of the update that W_o (m × d) would get, before it is rounded."""
        return self.solver.solve(w_o, w_o @ self.difference).norm

    def problem(self, original: Tensor) -> "AlignmentProblem":
        """Pose the problem of one matrix W_o (m × d) that reads these columns."""
        w_o = original.to(self.xy.x.dtype)
        anchor, rest = w_o @ self.xy.y, w_o @ self.xy.rest
        return AlignmentProblem(self, original, w_o, anchor, rest, norm(anchor, rest))


@dataclass(frozen=True)
class AlignmentProblem:
    """Find W (m × d) near W_o with WX near W_oY.

    ``anchor`` is W_oY and ``rest`` is W_o times what Y has beyond X; ``anchor_norm`` is ‖W_oY‖ of
    both together.
    """

    columns: FactoredColumns
    original: Tensor
    w_o: Tensor
    anchor: Tensor
    rest: Tensor
    anchor_norm: float

    def solve(self, dtype: torch.dtype | None) -> Tensor:
        """W* in ``dtype`` (None: that of the original)."""
        return (self.w_o + self._solution.delta).to(dtype or self.original.dtype)

    @cached_property
    def _before(self) -> Tensor:
        """W_o(Y − X) (m × n)."""
        return self.w_o @ self.columns.difference

    @cached_property
    def _solution(self) -> Solution:
        return self.columns.solver.solve(self.w_o, self._before)

    def edit(
        self,
        name: str,
        label: str,
        weight: Tensor,
        distances: FeatureDistances,
        single_encoder: Mapping[Encoder, FactoredColumns] = MappingProxyType({}),
    ) -> Edit:
        """Record what ``weight`` in the place of W_o does to the columns.

        ``single_encoder`` has the columns of each text encoder alone, for the size of the update
        that it alone would ask for.

        Raises LimitError for a weight that is not finite: it does not fit into its dtype.
        """
        columns = self.columns
        if not torch.isfinite(weight).all():
            wider = ", or --dtype fp32" if weight.dtype.itemsize < torch.float32.itemsize else ""
            raise LimitError(
                f"the edited {name} does not fit into {dtype_code(weight.dtype)}: condition number "
                f"{columns.solver.condition:.1e}; use fewer prompts{wider}"
            )
        alone = single_encoder.items()
        record = EditRecord(
            **dict(change(name, self.original, weight)),
            layer=label,
            residual_before=self._residual(self._before),
            residual_after=self._residual(self.anchor - weight.to(self.w_o.dtype) @ columns.xy.x),
            columns=columns.read.count,
            rank=columns.solver.rank,
            condition=columns.solver.condition,
            merged=columns.read.merged,
            conflicts=columns.read.conflicts,
            calibration=self._solution.calibration,
            feature_distance=distances["edited"],
            feature_distance_without_edits=distances["stock"],
            single_encoder_update={e: one.update_norm(self.w_o) for e, one in alone} or None,
        )
        return Edit(name, weight, record)

    def _residual(self, residual: Tensor) -> Residual:
        """The norm of W_oY − WX, where W is followed by the best constant if that is free."""
        constant = self.columns.constant
        if constant is not None:
            residual = residual - residual @ constant.T @ constant / constant.square().sum()
        absolute = norm(residual, self.rest)
        return Residual(absolute=absolute, relative=ratio(absolute, self.anchor_norm))


def change(name: str, original: Tensor, weight: Tensor) -> Change:
    """Record the size of an edit that puts ``weight`` in the place of ``original``."""
    w_o = original.double()
    norm, changed = (float(torch.linalg.vector_norm(w)) for w in (w_o, weight.double() - w_o))
    return Change(
        name=name,
        shape=tuple(weight.shape),
        dtype=dtype_code(weight.dtype),
        changed=not torch.equal(original.to(weight.dtype), weight),
        norm=norm,
        update_norm=changed,
        relative_update=ratio(changed, norm),
    )
