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
from erasepro_convert.erase.calibration import Calibrated, Calibration
from erasepro_convert.erase.closed_form import (
    Factor,
    unchanged,
    update,
    update_norm,
)
from erasepro_convert.erase.read_features import FeatureDistances, Read, norm, ratio
from erasepro_convert.errors import LimitError
from erasepro_convert.language.moments import with_constant
from erasepro_convert.manifest import (
    CalibrationRecord,
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
    """The columns X and Y that some matrices read, with X factored once for all of them.

    ``up_to_constant`` is for keys of the cross-attention, where columns have a constant feature.
    What all keys have in common, softmax does not see: W f + c draws what W f does, for any c.  The
    solve has c as a column of its own beside W, that of a constant feature, and it is dropped.  So
    features that have a constant part give no more room than those that have none.

    Raises LimitError when no change is allowed.
    """

    def __init__(self, read: Read, *, up_to_constant: bool = False) -> None:
        form = read.problem.form
        d = len(read.xy.x) - read.has_constant
        self.read = read
        self.xy = read.xy.rows(d)
        self.constant = read.xy.x[d:] if up_to_constant else None
        solved = read.xy.x if up_to_constant else self.xy.x
        factor = form.factor(solved.double(), read.retained)
        if not factor.rank:
            raise LimitError(
                f"{read.label}: the retained prompts use all that the targets do, which leaves "
                "nothing to change; retain fewer of them, or with less weight"
            )
        self._calibration = None
        if form.spectrum is None:
            augment = with_constant if up_to_constant else unchanged
            self._calibration = Calibration(
                factor, read.calibration, augment, read.problem.strength
            )
        v, reader = factor.v.to(form.precision), factor.reader[:, :d].to(form.precision)
        self.factor = Factor(factor.s, v, reader)
        self.difference = self.xy.y - self.xy.x

    def spectrum(self, w_o: Tensor, residual: Tensor) -> tuple[Tensor, Calibrated | None]:
        """f(s) (r) for W_o (m × d) with the projected residual W_o(Y − X)V (m × r).

        Where matrices are calibrated, what came of that is returned too.
        """
        if self._calibration:
            calibrated = self._calibration.choose(w_o, residual)
            return calibrated.spectrum, calibrated
        spectrum = self.read.problem.form.spectrum
        assert spectrum
        return spectrum(self.factor.s, (residual * residual).sum(0)), None

    def update_norm(self, w_o: Tensor) -> float:
        """‖Δ‖ of the update that W_o (m × d) would get, before it is rounded."""
        residual = w_o @ self.difference @ self.factor.v
        spectrum = self.spectrum(w_o, residual)[0].to(residual.dtype)
        return update_norm(residual, self.factor, spectrum)

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
        spectrum = self._spectrum[0].to(self.w_o.dtype)
        delta = update(self._projected, self.columns.factor, spectrum)
        return (self.w_o + delta).to(dtype or self.original.dtype)

    @cached_property
    def _before(self) -> Tensor:
        """W_o(Y − X) (m × n)."""
        return self.w_o @ self.columns.difference

    @cached_property
    def _projected(self) -> Tensor:
        """W_o(Y − X)V (m × r)."""
        return self._before @ self.columns.factor.v

    @cached_property
    def _spectrum(self) -> tuple[Tensor, Calibrated | None]:
        return self.columns.spectrum(self.w_o, self._projected)

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
                f"{columns.factor.condition:.1e}; use fewer prompts{wider}"
            )
        alone = single_encoder.items()
        record = EditRecord(
            **dict(change(name, self.original, weight)),
            layer=label,
            residual_before=self._residual(self._before),
            residual_after=self._residual(self.anchor - weight.to(self.w_o.dtype) @ columns.xy.x),
            columns=columns.read.count,
            rank=columns.factor.rank,
            condition=columns.factor.condition,
            merged=columns.read.merged,
            conflicts=columns.read.conflicts,
            calibration=self._calibration,
            feature_distance=distances["edited"],
            feature_distance_without_edits=distances["stock"],
            single_encoder_update={e: one.update_norm(self.w_o) for e, one in alone} or None,
        )
        return Edit(name, weight, record)

    @property
    def _calibration(self) -> CalibrationRecord | None:
        calibrated = self._spectrum[1]
        if not calibrated:
            return None
        return CalibrationRecord(
            regularisation=calibrated.epsilon / float(self.columns.factor.s[0]) ** 2,
            leak=calibrated.leak,
            drift=calibrated.drift,
        )

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
