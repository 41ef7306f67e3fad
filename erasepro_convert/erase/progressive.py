"""One pass from the first text-encoder layer to the cross-attention, with edits on its way.

ErasePro (Algorithm 1), ErasePro-modified (Algorithm 2), UCE (Eq. 2) and the null-space solve share
it.  They differ in the closed form of each layer, and in whether the target's features pass through
updated layers.  ``solve`` computes the edited weights; ``measure`` takes weights that were edited
before, and gives the records that a solve would have given of them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from erasepro_convert.clip.text_encoder import Features, Prefixes, ReadTensor
from erasepro_convert.erase.matrix_edit import (
    AlignmentProblem,
    Edit,
    FactoredColumns,
    FeatureDistances,
    Group,
    Inputs,
    Model,
    Problem,
    feature_distances,
)
from erasepro_convert.language.moments import Reader
from erasepro_convert.manifest import Encoder
from erasepro_convert.runtime.threads import THREAD_LIMIT, parallel_map, running_in_background
from erasepro_convert.sd1 import cross_attentions, edited_names, text_attention
from erasepro_convert.sd1.keys import TEXT_LAYERS

LayerNorm = Callable[[Tensor], Tensor]

EditedWeight = Callable[[str, AlignmentProblem], Tensor]
"""Gives the edited weight of the tensor of a name."""


@dataclass(frozen=True)
class Scope:
    """Which matrices are edited, and what their edits hold for.

    ``text_layers`` count from 1, ``unet_blocks`` are names (``down.0``, …).  The cross-attention is
    edited for the features of each of ``text_encoders`` and ``clip_skips`` together.
    ``through_updated`` extracts the target's features through each layer after its update
    (Algorithm 1) or before it (Algorithm 2); in either case with the weights as they will be
    stored.
    """

    text_layers: tuple[int, ...]
    unet_blocks: tuple[str, ...]
    text_encoders: tuple[Encoder, ...]
    clip_skips: tuple[int, ...]
    through_updated: bool


def solve(model: Model, problem: Problem, scope: Scope) -> Iterator[Edit]:
    """Edit layer after layer, shallow to deep (Fig. 3c).

    Raises CheckpointError when features are not finite, LimitError when an edited weight is not or
    when retained prompts leave nothing to change.
    """

    def solved(name: str, matrix: AlignmentProblem) -> Tensor:
        del name
        return matrix.solve(model.dtype)

    return _edits(model, problem, scope, solved, single_encoder=False)


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
    single_encoder: bool,
) -> Iterator[Edit]:
    """Pass through the layers, with an edit for each matrix of the scope on the way.

    The anchor's features pass through the original weights, the target's through those that will be
    stored.
    """
    prompts = problem.prompts
    precision = problem.form.precision
    original, current = model.encoder(precision), model.stored_encoder(precision)
    groups = _groups(problem)
    everything, places = _together(groups)
    # Where no layer is updated on the way and none is cast, one pass gives both features.
    is_one_pass = not scope.through_updated and model.dtype is None
    fed, fed_places = everything, places
    if not is_one_pass:  # some prompts pass through the original weights alone
        fed, fed_places = _together({g: p for g, p in groups.items() if g not in ORIGINAL_ONLY})
    stock = original.embed(everything)
    edited = stock if is_one_pass else current.embed(fed)

    def inputs(reader: Reader, stock_norm: LayerNorm, edited_norm: LayerNorm) -> Inputs:
        """What a layer reads; the features are those of the pass so far, also later on."""
        unedited, updated = stock, edited
        return Inputs(
            reader,
            lambda group: Features(updated, fed_places[group], edited_norm),
            lambda group: Features(unedited, places[group], stock_norm),
        )

    feeds: dict[Encoder, list[Inputs]] = {"edited": [], "stock": []}  # one for each clip skip
    for number in range(1, TEXT_LAYERS + 1):
        layer = original.layer(number)
        updated = current.layer(number) if model.dtype else layer
        with running_in_background(partial(layer, stock, everything)) as passing:
            if number in scope.text_layers:
                source = inputs(number, layer.attention_input, updated.attention_input)
                edits = _text_layer(model, number, problem, source, edited_weight)
                yield from edits
                if scope.through_updated:
                    weights = (edit.weight.to(precision) for edit in edits)
                    updated = updated.with_attention(dict(zip("qkv", weights, strict=True)))
            stock = passing.result()
        edited = stock if is_one_pass else updated(edited, fed)
        if (skip := TEXT_LAYERS + 1 - number) in scope.clip_skips:
            source = inputs(f"skip.{skip}", original.final_norm, current.final_norm)
            feeds["edited"].append(source)
            feeds["stock"].append(source.without_edits)
    if scope.unet_blocks:
        together = [source for encoder in scope.text_encoders for source in feeds[encoder]]
        columns = CrossAttentionColumns.factor(problem, together)
        alone = {}
        if single_encoder:
            alone = {e: CrossAttentionColumns.factor(problem, feeds[e]) for e in feeds}
        names = edited_names((), scope.unet_blocks)
        distances = feature_distances(prompts.solved.deeper_layers, feeds)
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
        keys = FactoredColumns("unet", problem, index, inputs, up_to_constant=True)
        if problem.language is None:
            return cls(keys, keys)
        return cls(keys, FactoredColumns("unet", problem, index, inputs))

    def of(self, name: str) -> FactoredColumns:
        """The columns of a matrix by its tensor's name."""
        return self.keys if name in KEYS else self.values


KEYS = frozenset(attention.to_k for attention in cross_attentions())
"""The key matrices of the cross-attention."""

ORIGINAL_ONLY: tuple[Group, ...] = ("anchor", "calibration_anchor", "left_out")
"""Prompts of which the original features alone are asked for."""

Ids = tuple[Tensor, tuple[int, ...]]
"""Token ids of prompts (P × T), and the lengths to which they are read."""


def _groups(problem: Problem) -> dict[Group, Ids]:
    """The prompts that pass through the text encoder."""
    prompts = problem.prompts
    groups: dict[Group, Ids] = {
        "anchor": (prompts.solved.anchor_ids, prompts.solved.anchor_lengths),
        "target": (prompts.solved.target_ids, prompts.solved.target_lengths),
        "retained": (prompts.retained.ids, prompts.retained.lengths),
    }
    if problem.language:
        groups["left_out"] = problem.language.left_out.ids, problem.language.left_out.lengths
    if problem.form.spectrum is None:
        pairs, others = prompts.calibration, prompts.calibration_others
        groups["calibration_anchor"] = pairs.anchor_ids, pairs.anchor_lengths
        groups["calibration_target"] = pairs.target_ids, pairs.target_lengths
        groups["calibration_other"] = others.ids, others.lengths
    return groups


def _together(groups: Mapping[Group, Ids]) -> tuple[Prefixes, dict[Group, Tensor]]:
    """The distinct prefixes of all groups, and for each group where its prompts' prefixes are."""
    counts = [len(ids) for ids, _ in groups.values()]
    width = max(ids.shape[1] for ids, _ in groups.values())
    ids = torch.cat([pad(ids, (0, width - ids.shape[1])) for ids, _ in groups.values()])
    prefixes = Prefixes.from_token_ids(ids, [n for _, lengths in groups.values() for n in lengths])
    return prefixes, dict(zip(groups, prefixes.prefix_at.split(counts), strict=True))


def _text_layer(
    model: Model,
    number: int,
    problem: Problem,
    source: Inputs,
    edited_weight: EditedWeight,
) -> list[Edit]:
    """Edit queries, keys and values of a text-encoder layer."""
    label = f"text_encoder.{number}"
    index = problem.prompts.solved.index(number)
    columns = FactoredColumns(label, problem, index, [source])
    distances = feature_distances(index, {"edited": [source], "stock": [source.without_edits]})

    def edit(name: str) -> Edit:
        matrix = columns.problem(model.read(name))
        return matrix.edit(name, label, edited_weight(name, matrix), distances)

    return parallel_map(edit, list(text_attention(number).values()))


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
