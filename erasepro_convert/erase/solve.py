"""The solve of some matrices that read the same features: columns in, stored weights out."""

from dataclasses import dataclass

import torch
from torch import Tensor

from erasepro_convert.clip.text_encoder import Read
from erasepro_convert.dtypes import dtype_code
from erasepro_convert.erase.features import Aligned, Columns
from erasepro_convert.erase.solver import Spectrum, factorise, retain_norm, update
from erasepro_convert.errors import CheckpointError, LimitError
from erasepro_convert.manifest import Apart, EditRecord, Encoder, Residual
from erasepro_convert.recipe import Recipe


@dataclass(frozen=True)
class Model:
    """The original weights by name, and the dtype of the output (None: each as it is).

    ``edited`` reads weights that were edited before: they are measured, nothing is solved.
    """

    read: Read
    dtype: torch.dtype | None = None
    edited: Read | None = None

    def stored(self, name: str) -> Tensor:
        """A weight as the output will hold it if it is not edited."""
        return self.read(name).to(self.dtype)


@dataclass(frozen=True)
class Edit:
    """One edited tensor: its name, the weight to store, the record for the manifest."""

    name: str
    weight: Tensor
    record: EditRecord


@dataclass(frozen=True)
class Inputs:
    """Features of anchor (Q × T × d), target (P × T × d) and retained prompts (R × T × d)."""

    anchor: Tensor
    target: Tensor
    retained: Tensor


Feeds = dict[Encoder, list[Inputs]]
"""What a matrix reads, by the text encoder that it comes from."""


def _x_and_y(columns: Columns, inputs: list[Inputs]) -> tuple[Tensor, Tensor]:
    """Each element of ``inputs`` gives a full set of columns."""
    x = torch.cat([columns.target.columns(part.target) for part in inputs], dim=1)
    y = torch.cat([columns.anchor.columns(part.anchor) for part in inputs], dim=1)
    return x, y


def both_apart(columns: Columns, feeds: Feeds) -> tuple[Apart, Apart]:
    """How far X and Y are apart with the edits so far, and without any."""
    return _apart(*_x_and_y(columns, feeds["edited"])), _apart(*_x_and_y(columns, feeds["stock"]))


def _apart(x: Tensor, y: Tensor) -> Apart:
    cosines = torch.nn.functional.cosine_similarity(x, y, dim=0).clamp(-1, 1)
    angle = float(cosines.acos().mean().rad2deg())
    return Apart(distance=_ratio(_norm(x - y), _norm(y)), angle=angle)


class Solve:
    """The features that some matrices share, factored once; edits any of these matrices.

    Raises CheckpointError when features are not finite.
    """

    def __init__(
        self,
        label: str,
        columns: Columns,
        inputs: list[Inputs],
        aligned: Aligned,
        recipe: Recipe,
        spectrum: Spectrum,
    ) -> None:
        self._x, self._y = _x_and_y(columns, inputs)
        norm = None
        if recipe.retain.weight and len(aligned.retained_ids):
            parts = [aligned.retained.columns(part.retained) for part in inputs]
            retained = torch.cat(parts, dim=1)
            _require_finite(label, retained)
            norm = retain_norm(retained, recipe.retain.weight)
        _require_finite(label, self._x, self._y)
        self._factor = factorise(self._x, norm)
        self._spectrum = spectrum
        self._merged = len(inputs) * columns.record.merged
        self._conflicts = len(inputs) * len(columns.record.conflicts)

    def _delta(self, w_o: Tensor) -> Tensor:
        goal = w_o @ self._y
        return update(goal - w_o @ self._x, _norm(goal), self._factor, self._spectrum)

    def update_norm(self, model: Model, name: str) -> float:
        """The size of the update that tensor ``name`` would get, before it is rounded."""
        return _norm(self._delta(model.read(name).double()))

    def edit(
        self,
        model: Model,
        name: str,
        label: str,
        apart: tuple[Apart, Apart],
        alone: dict[Encoder, float] | None = None,
    ) -> Edit:
        """The edited weight of tensor ``name`` as it will be stored, and its record.

        Raises LimitError when the weight does not fit into its dtype.
        """
        original = model.read(name)
        w_o = original.double()
        if model.edited:
            weight = model.edited(name)
        else:
            weight = (w_o + self._delta(w_o)).to(model.dtype or original.dtype)
        if not torch.isfinite(weight).all():
            raise LimitError(
                f"the edited {name} does not fit into {weight.dtype}: condition number "
                f"{self._factor.condition:.1e}; use fewer prompts, or --dtype fp32"
            )
        w = weight.double()
        norm, update_norm = _norm(w_o), _norm(w - w_o)
        record = EditRecord(
            layer=label,
            name=name,
            shape=(w.shape[0], w.shape[1]),
            dtype=dtype_code(weight.dtype),
            norm=norm,
            update_norm=update_norm,
            relative_update=_ratio(update_norm, norm),
            residual_before=self._residual(w_o, w_o),
            residual_after=self._residual(w, w_o),
            columns=self._x.shape[1],
            rank=self._factor.rank,
            condition=self._factor.condition,
            merged=self._merged,
            conflicts=self._conflicts,
            apart=apart[0],
            apart_without=apart[1],
            alone=alone,
        )
        return Edit(name, weight, record)

    def _residual(self, w: Tensor, w_o: Tensor) -> Residual:
        goal = w_o @ self._y
        absolute = _norm(w @ self._x - goal)
        return Residual(absolute=absolute, relative=_ratio(absolute, _norm(goal)))


def _require_finite(label: str, *features: Tensor) -> None:
    if not all(bool(torch.isfinite(part).all()) for part in features):
        raise CheckpointError(
            f"the text features at {label} are not finite: this text encoder is damaged"
        )


def _norm(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix))


def _ratio(part: float, whole: float) -> float:
    """``part / whole``; a zero matrix has nothing to deviate from, so there it is zero."""
    return part / whole if whole else 0.0
