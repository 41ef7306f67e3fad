"""How far an erasure got on prompts that others published, measured on text features.

Prompts about a target have no counterpart about its anchor where they describe the target without
its name.  What all of them have is a place between the two.  With KV_o a matrix of the original
checkpoint applied to its own text features at EOS, KV_e that of the edited one, a and t the means
of KV_o over the recipe's held-out prompts of the anchor and of the target,

    presence = ⟨KV_e(prompt) − a, t − a⟩ / ‖t − a‖²,

as the mean over all 32 matrices: 1 for a prompt that is as the target's, 0 for one that is as the
anchor's, ½ for one that is as far from both, as prompts about anything else are.  It is linear
in squared distances, ½ + (‖x − a‖² − ‖x − t‖²) / 2‖t − a‖², and a constant that is added to all
features, or to all keys, does not change it.

Leak of prompts that name the target once and drift of neighbours are those of ``leak_drift``, with
the spread of the recipe's other prompts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from erasepro_convert.clip.fed_features import fed_features
from erasepro_convert.clip.text_encoder import Prefixes, TextEncoder
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.erase.pairing import held_out_pairs
from erasepro_convert.manifest import Feed
from erasepro_convert.probing.feature_pairs import (
    FeaturePairs,
    find_prefixes,
    pair_with_anchors,
    pair_with_themselves,
)
from erasepro_convert.probing.leak_drift import DTYPE
from erasepro_convert.probing.measures import EditedMatrix, common_movement, drift, share
from erasepro_convert.probing.published_prompts import ProbedPrompt, PromptGroup
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.threads import one_thread, parallel_map
from erasepro_convert.sd1 import cross_attentions, key_value_matrices
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint

MeasureName = Literal["leak", "presence", "drift"]


@dataclass(frozen=True)
class Value:
    """A prompt's measure; ``before`` is that of the original."""

    prompt: ProbedPrompt
    feed: Feed
    measure: MeasureName
    before: float
    after: float


@dataclass(frozen=True)
class _Texts:
    """The features of a group's prompts: which prefixes are measured for what.

    ``pairs`` are target and anchor prompts of ``named``.  ``whole`` are neighbours.  ``ends`` are
    the last prefixes of prompts about the target, ``targets`` and ``anchors`` those of the recipe's
    held-out prompts; ``others`` are the recipe's other prompts.
    """

    prefixes: Prefixes
    others: FeaturePairs
    named: Sequence[ProbedPrompt]
    pairs: FeaturePairs | None
    whole: FeaturePairs | None
    ends: Tensor
    targets: Tensor
    anchors: Tensor


@one_thread()
@torch.inference_mode()
def measure_prompts(
    group: PromptGroup, recipe: Recipe, original: SD1Checkpoint, edited: SD1Checkpoint
) -> list[Value]:
    """Measure a group of prompts with each way of feeding the U-Net of ``edited``."""
    texts = _texts(group, recipe)
    stock, own = (
        fed_features(TextEncoder(c.read, DTYPE, c.rows), texts.prefixes, recipe.clip_skip)
        for c in (original, edited)
    )
    keys = {attention.to_k for attention in cross_attentions()}

    def measure(name: str) -> dict[tuple[MeasureName, Feed], tuple[Tensor, Tensor]]:
        before, after = (c.read(name).to(DTYPE).T for c in (original, edited))
        found: dict[tuple[MeasureName, Feed], tuple[Tensor, Tensor]] = {}
        for skip, unedited in stock.items():
            feeds = {
                Feed(text_encoder="edited", clip_skip=skip): own[skip],
                Feed(text_encoder="stock", clip_skip=skip): unedited,
            }
            matrix = EditedMatrix(before, after, unedited, feeds)
            found |= _measure_matrix(matrix, texts, up_to_constant=name in keys)
        return found

    by_matrix = parallel_map(measure, key_value_matrices())
    values = []
    for name, feed in by_matrix[0]:
        sides = zip(*(found[name, feed] for found in by_matrix), strict=True)
        before, after = (torch.stack(side).mean(0).tolist() for side in sides)
        prompts = texts.named if name == "leak" else group.prompts
        values += [
            Value(prompt, feed, name, *both)
            for prompt, *both in zip(prompts, before, after, strict=True)
        ]
    return values


def _measure_matrix(
    matrix: EditedMatrix, texts: _Texts, *, up_to_constant: bool
) -> dict[tuple[MeasureName, Feed], tuple[Tensor, Tensor]]:
    """Return each measure before and after, by prompt, for each feed."""
    originals, moves = matrix.movement(texts.others)
    shifts = common_movement(texts.others, moves, up_to_constant=up_to_constant)
    found: dict[tuple[MeasureName, Feed], tuple[Tensor, Tensor]] = {}
    if texts.whole:
        spread = texts.others.spread(originals) or 1.0
        _, moves = matrix.movement(texts.whole)
        for feed, moved in moves.items():
            now = drift(texts.whole, moved, shifts[feed], spread)
            found["drift", feed] = torch.zeros_like(now), now
        return found
    start_outputs = matrix.unedited[texts.ends] @ matrix.before
    start = _presence(matrix, texts, start_outputs)
    for feed, fed in matrix.feeds.items():
        outputs = fed[texts.ends] @ matrix.after - shifts[feed]
        found["presence", feed] = start, _presence(matrix, texts, outputs)
    if texts.pairs:
        unit, ends = matrix.distances(texts.pairs, shifts)
        for feed, end in ends.items():
            found["leak", feed] = share(unit, unit), share(end, unit)
    return found


def _presence(matrix: EditedMatrix, texts: _Texts, outputs: Tensor) -> Tensor:
    """Return where outputs (n × m) are between the anchor (0) and the target (1).

    Where the matrix does not tell the two apart, everything is as far from both.
    """
    target, anchor = (
        (matrix.unedited[prefixes] @ matrix.before).mean(0)
        for prefixes in (texts.targets, texts.anchors)
    )
    way = target - anchor
    length = way.square().sum()
    return torch.where(length > 0, (outputs - anchor) @ way / length, 0.5)


def _texts(group: PromptGroup, recipe: Recipe) -> _Texts:
    """Tokenise all that a group's prompts are measured by, and find the features that count."""
    is_about = group.kind == "target"
    references = list(held_out_pairs(group.concept, recipe)) if group.concept else []
    named = [prompt for prompt in group.prompts if prompt.pair]
    pairs = [prompt.pair for prompt in named if prompt.pair]
    others = recipe.without_targets(recipe.probe.others)
    paired = (text for pair in (*references, *pairs) for text in (pair.target, pair.anchor))
    tokens = {text: tokenize(text) for text in dict.fromkeys((*others, *paired))}
    tokens |= {prompt.text: tokenize(prompt.text, as_drawn=True) for prompt in group.prompts}
    prefixes, prefix_at = find_prefixes(tokens)

    def lengths(texts: Iterable[str]) -> list[tuple[str, int]]:
        return [(text, tokens[text].count) for text in texts]

    def ends(texts: Iterable[str]) -> Tensor:
        last = [prefix_at[text][count - 1] for text, count in lengths(texts)]
        return torch.tensor(last, dtype=torch.long)

    texts = [prompt.text for prompt in group.prompts]
    return _Texts(
        prefixes=prefixes,
        others=pair_with_themselves(prefix_at, lengths(others)),
        named=named,
        pairs=pair_with_anchors(prefix_at, pairs) if pairs else None,
        whole=None if is_about else pair_with_themselves(prefix_at, lengths(texts)),
        ends=ends(texts if is_about else ()),
        targets=ends(pair.target for pair in references),
        anchors=ends(pair.anchor for pair in references),
    )
