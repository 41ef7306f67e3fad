"""The solve of some matrices that read the same features: columns in, stored weights out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import hypot

import torch
from torch import Tensor

from erasepro_convert.clip.text_encoder import Features, ReadRows, ReadTensor, TextEncoder
from erasepro_convert.erase.closed_form import Columns, Form, update, update_norm
from erasepro_convert.erase.pairing import Aligned, ColumnPlaces
from erasepro_convert.errors import CheckpointError, LimitError
from erasepro_convert.manifest import Apart, Change, EditRecord, Encoder, Residual
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.dtypes import dtype_code


@dataclass(frozen=True)
class Model:
    """The original weights by name, and the dtype of the output (None: each as it is).

    ``edited`` reads weights that were edited before: they are measured, nothing is solved.
    """

    read: ReadTensor
    dtype: torch.dtype | None = None
    edited: ReadTensor | None = None
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
        """Rows of a matrix as the output will hold them."""
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


Feeds = dict[Encoder, list[Inputs]]
"""What a matrix reads, by the text encoder that it comes from."""


PART = 3072
"""Columns that are looked at together."""


def _parts(columns: ColumnPlaces, inputs: list[Inputs]) -> Iterator[tuple[Tensor, Tensor]]:
    """X and Y piece by piece; each element of ``inputs`` gives a full set of columns."""
    for source in inputs:
        for start in range(0, len(columns.target), PART):
            part = slice(start, start + PART)
            x = columns.target.columns(source.target, part)
            yield x, columns.anchor.columns(source.anchor, part)


def both_apart(columns: ColumnPlaces, feeds: Feeds) -> tuple[Apart, Apart]:
    """How far X and Y are apart with the edits so far, and without any."""
    return _apart(columns, feeds["edited"]), _apart(columns, feeds["stock"])


def _apart(columns: ColumnPlaces, inputs: list[Inputs]) -> Apart:
    difference, size, angles, count = 0.0, 0.0, 0.0, 0
    for x, y in _parts(columns, inputs):
        difference += _norm(x - y) ** 2
        size += _norm(y) ** 2
        cosines = torch.nn.functional.cosine_similarity(x, y, dim=0).clamp(-1, 1)
        angles += float(cosines.acos().rad2deg().sum())
        count += x.shape[1]
    return Apart(distance=_ratio(difference**0.5, size**0.5), angle=angles / count)


class Solve:
    """The features that some matrices share, factored once; edits any of these matrices.

    Raises CheckpointError when features are not finite, LimitError when no change is allowed.
    """

    def __init__(
        self,
        label: str,
        columns: ColumnPlaces,
        inputs: list[Inputs],
        aligned: Aligned,
        recipe: Recipe,
        form: Form,
    ) -> None:
        self._count = len(inputs) * len(columns.target)
        self._columns = Columns.of(_parts(columns, inputs), self._count)
        weight = recipe.retain.weight
        kept = inputs if weight and len(aligned.retained_ids) else []
        retained = [aligned.retained.columns(part.retained) for part in kept]
        _require_finite(label, *retained, self._columns.x, self._columns.y, self._columns.rest)
        self._factor = form.factor(self._columns.x, retained, weight)
        if not self._factor.rank:
            raise LimitError(
                f"{label}: the retained prompts use all that the targets do, which leaves nothing "
                "to change; retain fewer of them, or with less weight"
            )
        self._against = (self._columns.y - self._columns.x) @ self._factor.v
        self._spectrum = form.spectrum
        self._merged = len(inputs) * columns.record.merged
        self._conflicts = len(inputs) * len(columns.record.conflicts)

    def update_norm(self, w_o: Tensor) -> float:
        """The size of the update that ``w_o`` would get, before it is rounded."""
        goal = _norm(w_o @ self._columns.goal_root)
        return update_norm(w_o @ self._against, goal, self._factor, self._spectrum)

    def edit(
        self,
        model: Model,
        name: str,
        label: str,
        apart: tuple[Apart, Apart],
        alone: Mapping[Encoder, "Solve"] | None = None,
    ) -> Edit:
        """The edited weight of tensor ``name`` as it will be stored, and its record.

        ``alone`` are the solves for one text encoder only, which the record compares with.

        Raises LimitError when the weight does not fit into its dtype.
        """
        original = model.read(name)
        w_o = original.double()
        x, y, rest = self._columns.x, self._columns.y, w_o @ self._columns.rest
        goal = w_o @ y
        size = _norm(goal, rest)
        if model.edited:
            weight = model.edited(name)
        else:
            delta = update(w_o @ self._against, size, self._factor, self._spectrum)
            weight = (w_o + delta).to(model.dtype or original.dtype)
        if not torch.isfinite(weight).all():
            wider = ", or --dtype fp32" if weight.dtype.itemsize < torch.float32.itemsize else ""
            raise LimitError(
                f"the edited {name} does not fit into {dtype_code(weight.dtype)}: condition number "
                f"{self._factor.condition:.1e}; use fewer prompts{wider}"
            )
        w = weight.double()
        record = EditRecord(
            **dict(change(name, original, weight)),
            layer=label,
            residual_before=_residual(_norm(goal - w_o @ x, rest), size),
            residual_after=_residual(_norm(goal - w @ x, rest), size),
            columns=self._count,
            rank=self._factor.rank,
            condition=self._factor.condition,
            merged=self._merged,
            conflicts=self._conflicts,
            apart=apart[0],
            apart_without=apart[1],
            alone={e: solve.update_norm(w_o) for e, solve in alone.items()} if alone else None,
        )
        return Edit(name, weight, record)


def change(name: str, original: Tensor, weight: Tensor) -> Change:
    """The size of an edit."""
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


def _residual(absolute: float, goal: float) -> Residual:
    return Residual(absolute=absolute, relative=_ratio(absolute, goal))


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
