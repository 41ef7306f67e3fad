"""One pass from the first text-encoder layer to the cross-attention, with edits on its way.

ErasePro (Algorithm 1), ErasePro-modified (Algorithm 2), UCE (Eq. 2) and the null-space solve share
it.  They differ in the closed form of each layer, and in whether the target's features pass through
updated layers.  ``solve`` computes the edited weights; ``measure`` takes weights that were edited
before, and gives the records that a solve would have given of them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor

from erasepro_convert.clip.text_encoder import Features, Prefixes, ReadTensor
from erasepro_convert.erase.closed_form import Form
from erasepro_convert.erase.columns import AlignedPrompts, ColumnIndex
from erasepro_convert.erase.matrix_edit import (
    AlignmentProblem,
    Edit,
    FactoredColumns,
    Feeds,
    Inputs,
    Model,
    feature_distances,
)
from erasepro_convert.manifest import Encoder
from erasepro_convert.runtime.threads import THREAD_LIMIT, parallel_map, running_in_background
from erasepro_convert.sd1 import cross_attentions, edited_names, text_attention
from erasepro_convert.sd1.keys import TEXT_LAYERS

LayerNorm = Callable[[Tensor], Tensor]

EditedWeight = Callable[[str, AlignmentProblem], Tensor]
"""Gives the edited weight of the tensor of a name."""


@dataclass(frozen=True)
class Algorithm:
    """The closed form of each layer, and what the target's features pass through.

    ``through_updated`` extracts them through each layer after its update (Algorithm 1) or before it
    (Algorithm 2); in either case with the weights as they will be stored.
    """

    form: Form
    through_updated: bool


@dataclass(frozen=True)
class Scope:
    """Which matrices are edited, and what their edits hold for.

    ``text_layers`` count from 1, ``unet_blocks`` are names (``down.0``, …).  The cross-attention is
    edited for the features of each of ``text_encoders`` and ``clip_skips`` together.
    ``retain_weight`` is λ of C = I + λM.
    """

    text_layers: tuple[int, ...]
    unet_blocks: tuple[str, ...]
    text_encoders: tuple[Encoder, ...]
    clip_skips: tuple[int, ...]
    retain_weight: float


def solve(
    model: Model, prompts: AlignedPrompts, scope: Scope, algorithm: Algorithm
) -> Iterator[Edit]:
    """Edit layer after layer, shallow to deep (Fig. 3c).

    Raises CheckpointError when features are not finite, LimitError when an edited weight is not or
    when retained prompts leave nothing to change.
    """

    def solved(name: str, problem: AlignmentProblem) -> Tensor:
        del name
        return problem.solve(model.dtype)

    return _edits(model, prompts, scope, algorithm, solved, single_encoder=False)


def measure(
    model: Model,
    prompts: AlignedPrompts,
    scope: Scope,
    algorithm: Algorithm,
    edited: ReadTensor,
    *,
    single_encoder: bool = False,
) -> Iterator[Edit]:
    """Record weights that were edited before, which ``edited`` reads by name.

    ``single_encoder`` asks for the size of the update that each text encoder alone would need in
    the cross-attention (Fig. 2d), which takes a solve of its own.

    Raises what ``solve`` does.
    """

    def given(name: str, problem: AlignmentProblem) -> Tensor:
        del problem
        return edited(name)

    return _edits(model, prompts, scope, algorithm, given, single_encoder=single_encoder)


def _edits(
    model: Model,
    prompts: AlignedPrompts,
    scope: Scope,
    algorithm: Algorithm,
    edited_weight: EditedWeight,
    *,
    single_encoder: bool,
) -> Iterator[Edit]:
    """Pass through the layers, with an edit for each matrix of the scope on the way.

    The anchor's features pass through the original weights, the target's through those that will be
    stored.
    """
    original, current = model.encoder, model.stored_encoder
    counts = [len(prompts.anchor_ids), len(prompts.target_ids), len(prompts.retained_ids)]
    ids = torch.cat([prompts.anchor_ids, prompts.target_ids, prompts.retained_ids])
    lengths = (*prompts.anchor_lengths, *prompts.target_lengths, *prompts.retained_lengths)
    ends = accumulate(counts)
    anchors, targets, retained = (slice(end - n, end) for n, end in zip(counts, ends, strict=True))
    every = Prefixes.from_token_ids(ids, lengths)
    # Where no layer is updated on the way and none is cast, one pass gives both features.
    is_one_pass = not algorithm.through_updated and model.dtype is None
    # Anchors pass through the original weights alone.
    without_anchors = (
        every if is_one_pass else Prefixes.from_token_ids(ids[counts[0] :], lengths[counts[0] :])
    )
    skipped = 0 if is_one_pass else counts[0]
    stock = original.embed(every)
    edited = stock if is_one_pass else current.embed(without_anchors)

    def inputs(stock_norm: LayerNorm, edited_norm: LayerNorm) -> dict[Encoder, Inputs]:
        """The columns' sources by text encoder; Y is the original anchor's either way."""
        anchor = Features(stock, every.prefix_at[anchors], stock_norm)
        own = [slice(part.start - skipped, part.stop - skipped) for part in (targets, retained)]
        places = without_anchors.prefix_at
        return {
            "edited": Inputs(
                anchor, *(Features(edited, places[part], edited_norm) for part in own)
            ),
            "stock": Inputs(
                anchor,
                *(
                    Features(stock, every.prefix_at[part], stock_norm)
                    for part in (targets, retained)
                ),
            ),
        }

    feeds: dict[Encoder, list[Inputs]] = {"edited": [], "stock": []}  # one for each clip skip
    factor = _factoring(prompts, scope, algorithm.form)
    for number in range(1, TEXT_LAYERS + 1):
        layer = original.layer(number)
        updated = current.layer(number) if model.dtype else layer
        with running_in_background(partial(layer, stock, every)) as passing:
            if number in scope.text_layers:
                index = prompts.first_layer if number == 1 else prompts.deeper_layers
                sources = inputs(layer.attention_input, updated.attention_input)
                edits = _text_layer(
                    model, number, index, sources, factor=factor, edited_weight=edited_weight
                )
                yield from edits
                if algorithm.through_updated:
                    weights = (edit.weight.to(current.dtype) for edit in edits)
                    updated = updated.with_attention(dict(zip("qkv", weights, strict=True)))
            stock = passing.result()
        edited = stock if is_one_pass else updated(edited, without_anchors)
        if TEXT_LAYERS + 1 - number in scope.clip_skips:
            sources = inputs(original.final_norm, current.final_norm)
            for encoder, source in sources.items():
                feeds[encoder].append(source)
    if scope.unet_blocks:
        index = prompts.deeper_layers
        alone = None
        if single_encoder:
            alone = {encoder: factor("unet", index, feeds[encoder]) for encoder in feeds}
        together = [source for encoder in scope.text_encoders for source in feeds[encoder]]
        columns = factor("unet", index, together)
        names = edited_names((), scope.unet_blocks)
        yield from _cross_attention(
            model, names, index, feeds, columns=columns, edited_weight=edited_weight, alone=alone
        )


Factoring = Callable[[str, ColumnIndex, list[Inputs]], FactoredColumns]
"""Factors the columns of a layer, given its label."""


def _factoring(prompts: AlignedPrompts, scope: Scope, form: Form) -> Factoring:
    retained = prompts.retained if scope.retain_weight and len(prompts.retained_ids) else None

    def factor(label: str, index: ColumnIndex, inputs: list[Inputs]) -> FactoredColumns:
        return FactoredColumns(label, index, inputs, form, retained, scope.retain_weight)

    return factor


def _text_layer(
    model: Model,
    number: int,
    index: ColumnIndex,
    sources: Mapping[Encoder, Inputs],
    *,
    factor: Factoring,
    edited_weight: EditedWeight,
) -> list[Edit]:
    """Edit queries, keys and values of a text-encoder layer."""
    label = f"text_encoder.{number}"
    columns = factor(label, index, [sources["edited"]])
    distances = feature_distances(index, {encoder: [one] for encoder, one in sources.items()})

    def edit(name: str) -> Edit:
        problem = columns.problem(model.read(name))
        return problem.edit(name, label, edited_weight(name, problem), distances)

    return parallel_map(edit, list(text_attention(number).values()))


def _cross_attention(
    model: Model,
    names: tuple[str, ...],
    index: ColumnIndex,
    feeds: Feeds,
    *,
    columns: FactoredColumns,
    edited_weight: EditedWeight,
    alone: Mapping[Encoder, FactoredColumns] | None,
) -> Iterator[Edit]:
    """Edit the keys and values of the U-Net's cross-attention, which all read the same features."""
    distances = feature_distances(index, feeds)
    labels = {name: a.label for a in cross_attentions() for name in (a.to_k, a.to_v)}

    def edit(name: str) -> Edit:
        problem = columns.problem(model.read(name))
        return problem.edit(name, labels[name], edited_weight(name, problem), distances, alone)

    for start in range(0, len(names), THREAD_LIMIT):
        yield from parallel_map(edit, names[start : start + THREAD_LIMIT])
