"""The closed-form methods: one pass from the first text-encoder layer to the cross-attention.

ErasePro (Algorithm 1), ErasePro-modified (Algorithm 2) and UCE (Eq. 2) share it.  They differ in
the spectrum of the solve, and in whether the target's features pass through updated layers.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from erasepro_convert.clip.text_encoder import Read, TextEncoder
from erasepro_convert.dtypes import dtype_code
from erasepro_convert.erase.features import Aligned, Columns
from erasepro_convert.erase.solver import Spectrum, factorise, retain_norm, update
from erasepro_convert.errors import CheckpointError, LimitError
from erasepro_convert.layout import cross_attentions, text_attention
from erasepro_convert.layout.keys import TEXT_LAYERS
from erasepro_convert.manifest import Apart, EditRecord, Encoder, Residual
from erasepro_convert.recipe import Recipe


@dataclass(frozen=True)
class Model:
    """The original weights by name, and the dtype of the output (None: each as it is)."""

    read: Read
    dtype: torch.dtype | None = None

    def stored(self, name: str) -> Tensor:
        """A weight as the output will hold it if it is not edited."""
        return self.read(name).to(self.dtype)


@dataclass(frozen=True)
class Edit:
    """One edited tensor: its name, the weight to store, the record for the manifest."""

    name: str
    weight: Tensor
    record: EditRecord


def progressive(
    model: Model, aligned: Aligned, recipe: Recipe, *, spectrum: Spectrum, through_updated: bool
) -> Iterator[Edit]:
    """Edit layer after layer, shallow to deep (Fig. 3c).

    ``through_updated`` extracts the target's features through each layer after its update
    (Algorithm 1) or before it (Algorithm 2); in either case with the weights as they will be
    stored.  The anchor's pass through the original weights.  Where the recipe holds the stock text
    encoder too, the cross-attention gets columns from both.

    Raises CheckpointError when features are not finite, LimitError when an edited weight is not.
    """
    original, current = TextEncoder(model.read), TextEncoder(model.stored)
    counts = [len(aligned.anchor_ids), len(aligned.target_ids), len(aligned.retained_ids)]
    ids = torch.cat([aligned.anchor_ids, aligned.target_ids, aligned.retained_ids])
    stock = original.embed(ids)  # (Q + P + R, T, d)
    edited = current.embed(ids[counts[0] :])  # (P + R, T, d)

    def inputs(stock: Tensor, edited: Tensor) -> dict[Encoder, "_Inputs"]:
        """The columns' sources by text encoder; Y is the original anchor's either way."""
        anchor, *unedited = stock.split(counts)
        return {
            "edited": _Inputs(anchor, *edited.split(counts[1:])),
            "stock": _Inputs(anchor, *unedited),
        }

    states: dict[Encoder, list[_Inputs]] = {"edited": [], "stock": []}  # one for each clip skip
    for number in range(1, TEXT_LAYERS + 1):
        layer = original.layer(number)
        updated = current.layer(number) if model.dtype else layer
        if number in recipe.layers.text_encoder:
            columns = aligned.first_layer if number == 1 else aligned.deeper_layers
            sources = inputs(layer.attention_input(stock), updated.attention_input(edited))
            label = f"text_encoder.{number}"
            feeds = {encoder: [source] for encoder, source in sources.items()}
            solve = _Solve(label, columns, feeds["edited"], aligned, recipe, spectrum)
            apart = _both_apart(columns, feeds)
            edits = {
                part: solve.edit(model, name, label, apart)
                for part, name in text_attention(number).items()
            }
            yield from edits.values()
            if through_updated:
                weights = {part: edit.weight.to(current.dtype) for part, edit in edits.items()}
                updated = updated.with_attention(weights)
        stock, edited = layer(stock), updated(edited)
        if TEXT_LAYERS + 1 - number in recipe.clip_skip:
            sources = inputs(original.final_norm(stock), current.final_norm(edited))
            for encoder, source in sources.items():
                states[encoder].append(source)
    if recipe.layers.unet:
        yield from _cross_attention(model, states, aligned, recipe, spectrum)


def _cross_attention(
    model: Model,
    feeds: "Feeds",
    aligned: Aligned,
    recipe: Recipe,
    spectrum: Spectrum,
) -> Iterator[Edit]:
    """Edit the keys and values for the text encoders that the recipe holds."""
    columns = aligned.deeper_layers
    alone = {e: _Solve("unet", columns, feeds[e], aligned, recipe, spectrum) for e in feeds}
    both = [inputs for encoder in held(recipe) for inputs in feeds[encoder]]
    shared = _Solve("unet", columns, both, aligned, recipe, spectrum)
    apart = _both_apart(columns, feeds)
    for attention in cross_attentions():
        if attention.block in recipe.layers.unet:
            for name in (attention.to_k, attention.to_v):
                norms = {e: solve.update_norm(model, name) for e, solve in alone.items()}
                yield shared.edit(model, name, attention.label, apart, norms)


def held(recipe: Recipe) -> tuple[Encoder, ...]:
    """The text encoders that the cross-attention must hold for.

    An encoder that is not edited is the stock one: its features count once.
    """
    return recipe.text_encoders if recipe.layers.text_encoder else recipe.text_encoders[:1]


@dataclass(frozen=True)
class _Inputs:
    """Features of anchor (Q × T × d), target (P × T × d) and retained prompts (R × T × d)."""

    anchor: Tensor
    target: Tensor
    retained: Tensor


Feeds = dict[Encoder, list[_Inputs]]
"""What a matrix reads, by the text encoder that it comes from."""


def _x_and_y(columns: Columns, inputs: list[_Inputs]) -> tuple[Tensor, Tensor]:
    """Each element of ``inputs`` gives a full set of columns."""
    x = torch.cat([columns.target.columns(part.target) for part in inputs], dim=1)
    y = torch.cat([columns.anchor.columns(part.anchor) for part in inputs], dim=1)
    return x, y


def _both_apart(columns: Columns, feeds: Feeds) -> tuple[Apart, Apart]:
    """How far X and Y are apart with the edits so far, and without any."""
    return _apart(*_x_and_y(columns, feeds["edited"])), _apart(*_x_and_y(columns, feeds["stock"]))


def _apart(x: Tensor, y: Tensor) -> Apart:
    cosines = torch.nn.functional.cosine_similarity(x, y, dim=0).clamp(-1, 1)
    angle = float(cosines.acos().mean().rad2deg())
    return Apart(distance=_ratio(_norm(x - y), _norm(y)), angle=angle)


class _Solve:
    """The features that some matrices share, factored once; edits any of these matrices.

    Raises CheckpointError when features are not finite.
    """

    def __init__(
        self,
        label: str,
        columns: Columns,
        inputs: list[_Inputs],
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
        delta = self._delta(w_o)
        weight = (w_o + delta).to(model.dtype or original.dtype)
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
