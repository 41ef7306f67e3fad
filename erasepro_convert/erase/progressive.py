"""One pass from the first text-encoder layer to the cross-attention, with edits on its way.

All solved methods share it.  They differ in the closed form of each layer, and in whether the
target's features pass through updated layers.  ``solve`` computes the edited weights; ``measure``
takes weights that were edited before, and gives the records that a solve would have given of them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from erasepro_convert.clip.text_encoder import ReadTensor
from erasepro_convert.erase.matrix_edit import (
    AlignmentProblem,
    Edit,
    EditedWeight,
    FactoredColumns,
    Model,
)
from erasepro_convert.erase.read_features import (
    FeatureDistances,
    Inputs,
    Problem,
    Read,
    feature_distances,
)
from erasepro_convert.erase.scope import Scope
from erasepro_convert.erase.text_pass import Passes, text_edits
from erasepro_convert.manifest import Encoder
from erasepro_convert.runtime.threads import THREAD_LIMIT, parallel_map
from erasepro_convert.sd1 import cross_attentions, edited_names


def solve(
    model: Model, problem: Problem, scope: Scope, kept_as: str | None = None
) -> Iterator[Edit]:
    """Edit layer after layer, shallow to deep (Fig. 3c).

    ``kept_as`` is the name of what the text encoder's part gives in the user's cache folder; None
    computes it anew.

    Raises CheckpointError when features are not finite, LimitError when an edited weight is not or
    when retained prompts leave nothing to change.
    """

    def solved(name: str, matrix: AlignmentProblem) -> Tensor:
        del name
        return matrix.solve(model.dtype)

    return _edits(model, problem, scope, solved, kept_as=kept_as)


def measure(
    model: Model,
    problem: Problem,
    scope: Scope,
    edited: ReadTensor,
    *,
    single_encoder: bool = False,
) -> Iterator[Edit]:
    """Record weights that were edited before, which ``edited`` reads by name.

    ``single_encoder`` asks for the size of the update that each text encoder alone would need in
    the cross-attention (Fig. 2d), which takes a solve of its own.

    Raises what ``solve`` does.
    """

    def given(name: str, matrix: AlignmentProblem) -> Tensor:
        del matrix
        return edited(name)

    return _edits(model, problem, scope, given, single_encoder=single_encoder)


def _edits(
    model: Model,
    problem: Problem,
    scope: Scope,
    edited_weight: EditedWeight,
    *,
    single_encoder: bool = False,
    kept_as: str | None = None,
) -> Iterator[Edit]:
    updates = scope.through_updated and bool(scope.text_layers)
    passes = Passes.of(problem, is_one=not updates and model.dtype is None)
    fed = yield from text_edits(model, problem, scope, passes, edited_weight, kept_as)
    if scope.unet_blocks:
        feeds = passes.feeds(fed)
        together = [source for encoder in scope.text_encoders for source in feeds[encoder]]
        columns = CrossAttentionColumns.factor(problem, together)
        alone = {}
        if single_encoder:
            alone = {e: CrossAttentionColumns.factor(problem, feeds[e]) for e in feeds}
        names = edited_names((), scope.unet_blocks, values_only=scope.values_only)
        distances = feature_distances(problem.prompts.solved.deeper_layers, feeds)
        yield from _cross_attention(model, names, columns, alone, distances, edited_weight)


@dataclass(frozen=True)
class CrossAttentionColumns:
    """The columns that the keys of the cross-attention read, and those that the values do.

    They are the same features; keys are solved up to a constant.
    """

    keys: FactoredColumns
    values: FactoredColumns

    @classmethod
    def factor(cls, problem: Problem, inputs: list[Inputs]) -> "CrossAttentionColumns":
        """Factor the columns for both; once where nothing is retained, since that is the same."""
        index = problem.prompts.solved.deeper_layers
        has_constant = problem.language is not None and problem.form.knows_constant
        read = Read.of("unet", problem, index, inputs, has_constant=has_constant)
        values = FactoredColumns(read)
        return cls(FactoredColumns(read, up_to_constant=True) if has_constant else values, values)

    def of(self, name: str) -> FactoredColumns:
        """The columns of a matrix by its tensor's name."""
        return self.keys if name in KEYS else self.values


KEYS = frozenset(attention.to_k for attention in cross_attentions())
"""The key matrices of the cross-attention."""


def _cross_attention(
    model: Model,
    names: tuple[str, ...],
    columns: CrossAttentionColumns,
    alone: Mapping[Encoder, CrossAttentionColumns],
    distances: FeatureDistances,
    edited_weight: EditedWeight,
) -> Iterator[Edit]:
    """Edit the keys and values of the U-Net's cross-attention, which all read the same features."""
    labels = {name: a.label for a in cross_attentions() for name in (a.to_k, a.to_v)}

    def edit(name: str) -> Edit:
        matrix = columns.of(name).problem(model.read(name))
        single = {encoder: one.of(name) for encoder, one in alone.items()}
        return matrix.edit(name, labels[name], edited_weight(name, matrix), distances, single)

    for start in range(0, len(names), THREAD_LIMIT):
        yield from parallel_map(edit, names[start : start + THREAD_LIMIT])
