"""The closed-form methods: one pass from the first text-encoder layer to the cross-attention.

ErasePro (Algorithm 1), ErasePro-modified (Algorithm 2), UCE (Eq. 2) and the null-space solve share
it.  They differ in the form of the solve, and in whether the target's features pass through updated
layers.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor

from erasepro_convert.clip.text_encoder import Features, Prefixes
from erasepro_convert.erase.closed_form import Form
from erasepro_convert.erase.matrix_edit import Edit, Feeds, Inputs, Model, Solve, both_apart
from erasepro_convert.erase.pairing import Aligned
from erasepro_convert.manifest import Encoder
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.threads import THREAD_LIMIT, parallel_map, running_in_background
from erasepro_convert.sd1 import cross_attentions, edited_names, text_attention
from erasepro_convert.sd1.keys import TEXT_LAYERS

Norm = Callable[[Tensor], Tensor]


def progressive(
    model: Model, aligned: Aligned, recipe: Recipe, *, form: Form, through_updated: bool
) -> Iterator[Edit]:
    """Edit layer after layer, shallow to deep (Fig. 3c).

    ``through_updated`` extracts the target's features through each layer after its update
    (Algorithm 1) or before it (Algorithm 2); in either case with the weights as they will be
    stored.  The anchor's pass through the original weights.  Where the recipe holds the stock text
    encoder too, the cross-attention gets columns from both.

    Raises CheckpointError when features are not finite, LimitError when an edited weight is not.
    """
    original, current = model.encoder, model.stored_encoder
    counts = [len(aligned.anchor_ids), len(aligned.target_ids), len(aligned.retained_ids)]
    ids = torch.cat([aligned.anchor_ids, aligned.target_ids, aligned.retained_ids])
    lengths = (*aligned.anchor_lengths, *aligned.target_lengths, *aligned.retained_lengths)
    ends = accumulate(counts)
    anchors, targets, retained = (slice(end - n, end) for n, end in zip(counts, ends, strict=True))
    all_prompts = Prefixes.from_token_ids(ids, lengths)
    as_stock = not through_updated and model.dtype is None  # one pass tells both
    # Anchors pass through the original weights alone.
    prompts = (
        all_prompts if as_stock else Prefixes.from_token_ids(ids[counts[0] :], lengths[counts[0] :])
    )
    skipped = 0 if as_stock else counts[0]
    stock = original.embed(all_prompts)
    edited = stock if as_stock else current.embed(prompts)

    def inputs(of_stock: Norm, of_edited: Norm) -> dict[Encoder, Inputs]:
        """The columns' sources by text encoder; Y is the original anchor's either way."""
        anchor = Features(stock, all_prompts.prefix_at[anchors], of_stock)
        own = [slice(part.start - skipped, part.stop - skipped) for part in (targets, retained)]
        return {
            "edited": Inputs(
                anchor, *(Features(edited, prompts.prefix_at[part], of_edited) for part in own)
            ),
            "stock": Inputs(
                anchor,
                *(
                    Features(stock, all_prompts.prefix_at[part], of_stock)
                    for part in (targets, retained)
                ),
            ),
        }

    states: dict[Encoder, list[Inputs]] = {"edited": [], "stock": []}  # one for each clip skip
    for number in range(1, TEXT_LAYERS + 1):
        layer = original.layer(number)
        updated = current.layer(number) if model.dtype else layer
        with running_in_background(partial(layer, stock, all_prompts)) as passing:
            if number in recipe.layers.text_encoder:
                columns = aligned.first_layer if number == 1 else aligned.deeper_layers
                sources = inputs(layer.attention_input, updated.attention_input)
                label = f"text_encoder.{number}"
                feeds = {encoder: [source] for encoder, source in sources.items()}
                solve = Solve(label, columns, feeds["edited"], aligned, recipe, form)
                edit = partial(solve.edit, model, label=label, apart=both_apart(columns, feeds))
                edits = parallel_map(edit, list(text_attention(number).values()))
                yield from edits
                if through_updated:
                    weights = (edit.weight.to(current.dtype) for edit in edits)
                    updated = updated.with_attention(dict(zip("qkv", weights, strict=True)))
            stock = passing.result()
        edited = stock if as_stock else updated(edited, prompts)
        if TEXT_LAYERS + 1 - number in recipe.clip_skip:
            sources = inputs(original.final_norm, current.final_norm)
            for encoder, source in sources.items():
                states[encoder].append(source)
    if recipe.layers.unet:
        yield from _cross_attention(model, states, aligned, recipe, form)


def _cross_attention(
    model: Model,
    feeds: Feeds,
    aligned: Aligned,
    recipe: Recipe,
    form: Form,
) -> Iterator[Edit]:
    """Edit the keys and values for the text encoders that the recipe holds."""
    columns = aligned.deeper_layers
    alone = {e: Solve("unet", columns, feeds[e], aligned, recipe, form) for e in feeds}
    both = [inputs for encoder in held(recipe) for inputs in feeds[encoder]]
    shared = Solve("unet", columns, both, aligned, recipe, form)
    apart = both_apart(columns, feeds)
    labels = {name: a.label for a in cross_attentions() for name in (a.to_k, a.to_v)}

    def edit(name: str) -> Edit:
        return shared.edit(model, name, labels[name], apart, alone)

    names = edited_names((), recipe.layers.unet)
    for start in range(0, len(names), THREAD_LIMIT):
        yield from parallel_map(edit, names[start : start + THREAD_LIMIT])


def held(recipe: Recipe) -> tuple[Encoder, ...]:
    """The text encoders that the cross-attention must hold for.

    An encoder that is not edited is the stock one: its features count once.
    """
    return recipe.text_encoders if recipe.layers.text_encoder else recipe.text_encoders[:1]
