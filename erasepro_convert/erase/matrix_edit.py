"""The edit of matrices that read the same features: columns in, stored weights and records out.

m × d is the shape of a matrix, n the number of columns; all computation is in float64.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import hypot

import torch
from torch import Tensor

from erasepro_convert.clip.text_encoder import Features, ReadRows, ReadTensor, TextEncoder
from erasepro_convert.erase.closed_form import Columns, Form, update, update_norm
from erasepro_convert.erase.columns import ColumnIndex, TokenIndex
from erasepro_convert.errors import CheckpointError, LimitError
from erasepro_convert.manifest import Change, EditRecord, Encoder, FeatureDistance, Residual
from erasepro_convert.runtime.dtypes import dtype_code

PART = 3072
"""Columns that are looked at together."""


@dataclass(frozen=True)
class Model:
    """The original weights by name, and the dtype of the output (None: each as it is)."""

    read: ReadTensor
    dtype: torch.dtype | None = None
    rows: ReadRows | None = None

    def stored(self, name: str) -> Tensor:
        """A weight as the output will hold it if it is not edited."""
        return self.read(name).to(self.dtype)

    @property
    def encoder(self) -> TextEncoder:
        """The original text encoder."""
        return TextEncoder(self.read, rows=self.rows)

    @property
    def stored_encoder(self) -> TextEncoder:
        """The text encoder as the output will hold it if it is not edited."""
        return TextEncoder(self.stored, rows=self.stored_rows if self.rows else None)

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


@dataclass(frozen=True)
class Inputs:
    """Features of anchor, target and retained prompts."""

    anchor: Features
    target: Features
    retained: Features


Feeds = Mapping[Encoder, list[Inputs]]
"""What a matrix reads, by the text encoder that it comes from."""

FeatureDistances = Mapping[Encoder, FeatureDistance]
"""How far X is from Y, with all edits so far ("edited") and without any ("stock")."""


def feature_distances(columns: ColumnIndex, feeds: Feeds) -> FeatureDistances:
    """How far target features are from anchor features, by text encoder."""
    return {encoder: _feature_distance(columns, inputs) for encoder, inputs in feeds.items()}


def _feature_distance(columns: ColumnIndex, inputs: list[Inputs]) -> FeatureDistance:
    difference, size, angles, count = 0.0, 0.0, 0.0, 0
    for x, y in _parts(columns, inputs):
        difference += _norm(x - y) ** 2
        size += _norm(y) ** 2
        cosines = torch.nn.functional.cosine_similarity(x, y, dim=0).clamp(-1, 1)
        angles += float(cosines.acos().rad2deg().sum())
        count += x.shape[1]
    return FeatureDistance(distance=_ratio(difference**0.5, size**0.5), angle=angles / count)


def _parts(columns: ColumnIndex, inputs: list[Inputs]) -> Iterator[tuple[Tensor, Tensor]]:
    """X and Y piece by piece; each element of ``inputs`` gives a full set of columns."""
    for source in inputs:
        for start in range(0, len(columns.target), PART):
            part = slice(start, start + PART)
            x = columns.target.columns(source.target, part)
            yield x, columns.anchor.columns(source.anchor, part)


class FactoredColumns:
    """The columns X and Y that some matrices read, with X factored once for all of them.

    ``retained`` indexes the features that C counts with the weight λ; None counts nothing.

    Raises CheckpointError when features are not finite, LimitError when no change is allowed.
    """

    def __init__(
        self,
        label: str,
        columns: ColumnIndex,
        inputs: list[Inputs],
        form: Form,
        retained: TokenIndex | None,
        retain_weight: float,
    ) -> None:
        self.count = len(inputs) * len(columns.target)
        self.merged = len(inputs) * columns.record.merged
        self.conflicts = len(inputs) * len(columns.record.conflicts)
        self.xy = Columns.of(_parts(columns, inputs), self.count)
        kept = [retained.columns(part.retained) for part in inputs] if retained else []
        _require_finite(label, *kept, self.xy.x, self.xy.y, self.xy.rest)
        self.factor = form.factor(self.xy.x, kept, retain_weight)
        if not self.factor.rank:
            raise LimitError(
                f"{label}: the retained prompts use all that the targets do, which leaves nothing "
                "to change; retain fewer of them, or with less weight"
            )
        self.spectrum = form.spectrum
        self.difference = (self.xy.y - self.xy.x) @ self.factor.v  # (Y − X)V, d × r

    def update_norm(self, w_o: Tensor) -> float:
        """‖Δ‖ of the update that W_o (m × d) would get, before it is rounded."""
        anchor_norm = _norm(w_o @ self.xy.anchor_root)
        return update_norm(w_o @ self.difference, anchor_norm, self.factor, self.spectrum)

    def problem(self, original: Tensor) -> "AlignmentProblem":
        """Pose the problem of one matrix W_o (m × d) that reads these columns."""
        w_o = original.double()
        anchor, rest = w_o @ self.xy.y, w_o @ self.xy.rest
        return AlignmentProblem(self, original, w_o, anchor, rest, _norm(anchor, rest))


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
        columns = self.columns
        residual = self.w_o @ columns.difference
        delta = update(residual, self.anchor_norm, columns.factor, columns.spectrum)
        return (self.w_o + delta).to(dtype or self.original.dtype)

    def edit(
        self,
        name: str,
        label: str,
        weight: Tensor,
        distances: FeatureDistances,
        single_encoder: Mapping[Encoder, FactoredColumns] | None = None,
    ) -> Edit:
        """Record what ``weight`` in the place of W_o does to the columns.

        ``single_encoder`` has the columns of each text encoder alone, for the size of the update
        that it alone would ask for; None where nobody asked.

        Raises LimitError for a weight that is not finite: it does not fit into its dtype.
        """
        columns = self.columns
        if not torch.isfinite(weight).all():
            wider = ", or --dtype fp32" if weight.dtype.itemsize < torch.float32.itemsize else ""
            raise LimitError(
                f"the edited {name} does not fit into {dtype_code(weight.dtype)}: condition number "
                f"{columns.factor.condition:.1e}; use fewer prompts{wider}"
            )
        alone = single_encoder.items() if single_encoder else ()
        record = EditRecord(
            **dict(change(name, self.original, weight)),
            layer=label,
            residual_before=self._residual(self.w_o),
            residual_after=self._residual(weight.double()),
            columns=columns.count,
            rank=columns.factor.rank,
            condition=columns.factor.condition,
            merged=columns.merged,
            conflicts=columns.conflicts,
            feature_distance=distances["edited"],
            feature_distance_without_edits=distances["stock"],
            single_encoder_update={e: one.update_norm(self.w_o) for e, one in alone} or None,
        )
        return Edit(name, weight, record)

    def _residual(self, w: Tensor) -> Residual:
        """‖WX − W_oY‖."""
        absolute = _norm(self.anchor - w @ self.columns.xy.x, self.rest)
        return Residual(absolute=absolute, relative=_ratio(absolute, self.anchor_norm))


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
        relative_update=_ratio(changed, norm),
    )


def _require_finite(label: str, *features: Tensor) -> None:
    if not all(bool(torch.isfinite(part).all()) for part in features):
        raise CheckpointError(
            f"the text features at {label} are not finite: this text encoder is damaged"
        )


def _norm(*parts: Tensor) -> float:
    """The Frobenius norm of a matrix that is given in parts."""
    return hypot(*(float(torch.linalg.matrix_norm(part)) for part in parts))


def _ratio(part: float, whole: float) -> float:
    """``part / whole``; a zero matrix has nothing to deviate from, so there it is zero."""
    return part / whole if whole else 0.0
