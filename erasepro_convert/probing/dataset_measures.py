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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
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

    group: PromptGroup
    prompt: ProbedPrompt
    feed: Feed
    measure: MeasureName
    before: float
    after: float


@dataclass(frozen=True)
class _Texts:
    """The features of groups of prompts: which prefixes are measured for what.

    ``prompts`` has those of each measure, with their group, in the order of what it is computed
    from: ``named`` pairs target and anchor prompts, ``neighbours`` pairs neighbours with
    themselves, and ``ends`` are the last prefixes of prompts about targets.  The number of each
    one's target is in ``between``; ``targets`` and ``anchors`` (concepts × templates) are the last
    prefixes of the recipe's held-out prompts, and ``others`` its other prompts.
    """

    prompts: Mapping[MeasureName, Sequence[tuple[PromptGroup, ProbedPrompt]]]
    prefixes: Prefixes
    others: FeaturePairs
    named: FeaturePairs | None
    neighbours: FeaturePairs | None
    ends: Tensor
    between: Tensor
    targets: Tensor
    anchors: Tensor


@one_thread()
@torch.inference_mode()
def measure_prompts(
    groups: Sequence[PromptGroup], recipe: Recipe, original: SD1Checkpoint, edited: SD1Checkpoint
) -> list[Value]:
    """Measure groups of prompts with each way of feeding the U-Net of ``edited``."""
    texts = _texts(groups, recipe)
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
        values += [
            Value(*prompt, feed, name, *both)
            for prompt, *both in zip(texts.prompts[name], before, after, strict=True)
        ]
    return values


def _measure_matrix(
    matrix: EditedMatrix, texts: _Texts, *, up_to_constant: bool
) -> dict[tuple[MeasureName, Feed], tuple[Tensor, Tensor]]:
    """Return each measure before and after, by prompt, for each feed."""
    originals, moves = matrix.movement(texts.others)
    shifts = common_movement(texts.others, moves, up_to_constant=up_to_constant)
    found: dict[tuple[MeasureName, Feed], tuple[Tensor, Tensor]] = {}
    if texts.neighbours:
        spread = texts.others.spread(originals) or 1.0  # a zero matrix moves nothing
        _, moves = matrix.movement(texts.neighbours)
        for feed, moved in moves.items():
            now = drift(texts.neighbours, moved, shifts[feed], spread)
            found["drift", feed] = torch.zeros_like(now), now
    if texts.named:
        unit, ends = matrix.distances(texts.named, shifts)
        for feed, end in ends.items():
            found["leak", feed] = share(unit, unit), share(end, unit)
    if len(texts.ends):
        start = _presence(matrix, texts, matrix.unedited[texts.ends] @ matrix.before)
        for feed, fed in matrix.feeds.items():
            outputs = fed[texts.ends] @ matrix.after - shifts[feed]
            found["presence", feed] = start, _presence(matrix, texts, outputs)
    return found


def _presence(matrix: EditedMatrix, texts: _Texts, outputs: Tensor) -> Tensor:
    """Return where outputs (n × m) are between their anchors (0) and their targets (1).

    Where the matrix does not tell the two apart, everything is as far from both.
    """
    target, anchor = (
        (matrix.unedited[prefixes] @ matrix.before).mean(1)[texts.between]
        for prefixes in (texts.targets, texts.anchors)
    )
    way = target - anchor
    length = way.square().sum(1)
    return torch.where(length > 0, ((outputs - anchor) * way).sum(1) / length, 0.5)


def _texts(groups: Sequence[PromptGroup], recipe: Recipe) -> _Texts:
    """Tokenise all that prompts are measured by, and find the features that count."""
    both = [(group, prompt) for group in groups for prompt in group.prompts]
    about = [(group, prompt) for group, prompt in both if group.kind == "target"]
    neighbours = [(group, prompt) for group, prompt in both if group.kind != "target"]
    named = [(group, prompt) for group, prompt in about if prompt.pair]
    pairs = [prompt.pair for _, prompt in named if prompt.pair]
    concepts = list(dict.fromkeys(g.concept for g, _ in about if g.concept))
    references = [list(held_out_pairs(concept, recipe)) for concept in concepts]
    others = recipe.without_targets(recipe.probe.others)
    paired = (text for p in (*chain(*references), *pairs) for text in (p.target, p.anchor))
    tokens = {text: tokenize(text) for text in dict.fromkeys((*others, *paired))}
    tokens |= {prompt.text: tokenize(prompt.text, as_drawn=True) for _, prompt in both}
    prefixes, prefix_at = find_prefixes(tokens)

    def lengths(texts: Iterable[str]) -> list[tuple[str, int]]:
        return [(text, tokens[text].count) for text in texts]

    def ends(texts: Iterable[str]) -> list[int]:
        return [int(prefix_at[text][count - 1]) for text, count in lengths(texts)]

    kept = lengths(prompt.text for _, prompt in neighbours)
    return _Texts(
        prompts={"leak": named, "presence": about, "drift": neighbours},
        prefixes=prefixes,
        others=pair_with_themselves(prefix_at, lengths(others)),
        named=pair_with_anchors(prefix_at, pairs) if pairs else None,
        neighbours=pair_with_themselves(prefix_at, kept) if kept else None,
        ends=torch.tensor(ends(prompt.text for _, prompt in about), dtype=torch.long),
        between=torch.tensor([concepts.index(g.concept) for g, _ in about if g.concept]),
        targets=torch.tensor([ends(pair.target for pair in held_out) for held_out in references]),
        anchors=torch.tensor([ends(pair.anchor for pair in held_out) for held_out in references]),
    )
