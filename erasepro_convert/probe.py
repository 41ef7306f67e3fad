"""How far an erasure got, measured without pictures: leak of targets, drift of others.

The U-Net reads a prompt through its cross-attention's keys and values alone.  With KV_o a matrix of
the original checkpoint applied to its own text features and KV_e the same of the edited one,

    leak  = ‖KV_e(target) − KV_o(anchor)‖ / ‖KV_o(target) − KV_o(anchor)‖
    drift = ‖KV_e(other) − KV_o(other)‖ / ‖KV_o(other)‖

over positions 1 … EOS of a prompt, as the mean over all 32 matrices.  Leak is 1 where nothing was
done and 0 where the target has become the anchor.  BOS says nothing, and padding would drown what
the words say.  All prompts are held out from the solve.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from erasepro_convert.clip.text_encoder import Prefixes, Read, TextEncoder
from erasepro_convert.clip.tokenizer import Tokens, tokenize
from erasepro_convert.erase.features import paired_positions
from erasepro_convert.errors import CheckpointError
from erasepro_convert.layout import key_value_matrices
from erasepro_convert.layout.keys import TEXT_LAYERS
from erasepro_convert.manifest import Feed, ProbeRecord, PromptMeasure
from erasepro_convert.recipe import Recipe
from erasepro_convert.threads import side_by_side

DTYPE = torch.float32
"""Plenty for ratios that are read to two digits, and twice as fast as float64."""


@dataclass(frozen=True)
class _Pairs:
    """Pairs of features whose distances are measured, and the prompts that they belong to.

    ``left`` and ``right`` are the distinct pairs, ``each`` says which of them every position of
    every prompt has, and ``owners`` which prompt that is.
    """

    prompts: tuple[str, ...]
    left: Tensor
    right: Tensor
    each: Tensor
    owners: Tensor

    def by_prompt(self, squares: Tensor) -> Tensor:
        """The root of the sum over each prompt, given the squares of the distinct pairs."""
        sums = torch.zeros(len(self.prompts), dtype=squares.dtype)
        return sums.index_add(0, self.owners, squares[self.each]).sqrt()

    def apart(self, left: Tensor, right: Tensor) -> Tensor:
        """How far features (N × m) are apart, by prompt (Frobenius norm)."""
        return self.by_prompt((left[self.left] - right[self.right]).square().sum(1))


@dataclass(frozen=True)
class _Measures:
    """By prompt, for one feed and one matrix."""

    leak: Tensor
    start: Tensor
    end: Tensor
    drift: Tensor


def probe(recipe: Recipe, original: Read, edited: Read) -> ProbeRecord:
    """Measure the checkpoint that ``edited`` reads against the one that ``original`` reads.

    Raises RecipeError for a concept that CLIP does not read, CheckpointError for features that are
    not finite.
    """
    others = recipe.without_targets(recipe.probe.others)
    pairs = [pair for concept in recipe.concepts for pair in paired_positions(concept, recipe)]
    tokens = {
        prompt: tokenize(prompt)
        for prompt in (*(p.target for p in pairs), *(p.anchor for p in pairs), *others)
    }
    prefixes, beginnings = _beginnings(tokens)
    targets = _pairs(
        beginnings,
        [(p.target, range(1, len(p.positions)), p.anchor, p.positions[1:]) for p in pairs],
    )
    spans = {other: range(1, tokens[other].count) for other in others}
    kept = _pairs(beginnings, [(o, span, o, span) for o, span in spans.items()])

    encoders = TextEncoder(original, DTYPE), TextEncoder(edited, DTYPE)
    stock, changed = _features(encoders, prefixes, recipe)
    feeds = [
        *((Feed(text_encoder="edited", clip_skip=s), changed[s]) for s in changed),
        *((Feed(text_encoder="stock", clip_skip=s), stock[s]) for s in stock),
    ]

    def measures(name: str) -> list[_Measures]:
        before, after = original(name).to(DTYPE).T, edited(name).to(DTYPE).T
        found = []
        products = {skip: values @ before for skip, values in stock.items()}
        for feed, fed in feeds:
            was, now = products[feed.clip_skip], fed @ after
            squares = was.square().sum(1)
            size = targets.by_prompt(squares[targets.right])
            start, left = targets.apart(was, was), targets.apart(now, was)
            drift = kept.apart(now, was) / kept.by_prompt(squares[kept.right])
            found.append(_Measures(left / start, start / size, left / size, drift))
        return found

    matrices = key_value_matrices()
    by_feed = [*zip(*side_by_side(measures, matrices), strict=True)]
    leaks = [torch.stack([m.leak for m in found]).mean(0) for found in by_feed]
    starts = [torch.stack([m.start for m in found]).mean(0) for found in by_feed]
    ends = [torch.stack([m.end for m in found]).mean(0) for found in by_feed]
    drifts = [torch.stack([m.drift for m in found]).mean(0) for found in by_feed]
    names = [pair.concept for pair in pairs]
    mine = {
        concept: torch.tensor([i for i, name in enumerate(names) if name == concept])
        for concept in dict.fromkeys(names)
    }
    return ProbeRecord(
        leak=tuple(
            _of_concept(feed, concept, chosen, targets.prompts, values)
            for (feed, _), *values in zip(feeds, leaks, starts, ends, strict=True)
            for concept, chosen in mine.items()
        ),
        drift=tuple(
            _measure(feed, None, kept.prompts, drift)
            for (feed, _), drift in zip(feeds, drifts, strict=True)
        ),
    )


def _beginnings(tokens: Mapping[str, Tokens]) -> tuple[Prefixes, dict[str, Tensor]]:
    """The distinct beginnings of prompts, and which of them each prompt's positions have."""
    length = max(t.count for t in tokens.values())
    ids = torch.tensor([t.ids[:length] for t in tokens.values()])
    prefixes = Prefixes.of(ids, [t.count for t in tokens.values()])
    return prefixes, dict(zip(tokens, prefixes.place, strict=True))


def _pairs(
    beginnings: Mapping[str, Tensor],
    measured: Sequence[tuple[str, Sequence[int], str, Sequence[int]]],
) -> _Pairs:
    """Of prompt and positions with prompt and positions; the first prompt owns the pair."""
    left = torch.cat([beginnings[prompt][list(places)] for prompt, places, _, _ in measured])
    right = torch.cat([beginnings[prompt][list(places)] for _, _, prompt, places in measured])
    counts = torch.tensor([len(places) for _, places, _, _ in measured])
    distinct, each = torch.stack([left, right]).unique(dim=1, return_inverse=True)
    return _Pairs(
        prompts=tuple(prompt for prompt, _, _, _ in measured),
        left=distinct[0],
        right=distinct[1],
        each=each,
        owners=torch.arange(len(measured)).repeat_interleave(counts),
    )


def _features(
    encoders: Sequence[TextEncoder], prompts: Prefixes, recipe: Recipe
) -> list[dict[int, Tensor]]:
    """Text features (N × d) of each encoder by clip skip, made layer by layer."""
    hidden = [encoder.embed(prompts) for encoder in encoders]
    features: list[dict[int, Tensor]] = [{} for _ in encoders]
    for number in range(1, TEXT_LAYERS + 1):
        for i, encoder in enumerate(encoders):
            hidden[i] = encoder.layer(number)(hidden[i], prompts)
            if (skip := TEXT_LAYERS + 1 - number) in recipe.clip_skip:
                fed = encoder.final_norm(hidden[i])
                if not torch.isfinite(fed).all():
                    raise CheckpointError(
                        "text features are not finite: the text encoder is damaged"
                    )
                features[i][skip] = fed
    return features


def _of_concept(
    feed: Feed, concept: str, mine: Tensor, prompts: tuple[str, ...], values: list[Tensor]
) -> PromptMeasure:
    leak, start, end = (value[mine] for value in values)
    measure = _measure(feed, concept, tuple(prompts[i] for i in mine.tolist()), leak)
    distances = {"distance_before": float(start.mean()), "distance_after": float(end.mean())}
    return measure.model_copy(update=distances)


def _measure(
    feed: Feed, concept: str | None, prompts: tuple[str, ...], values: Tensor
) -> PromptMeasure:
    worst = int(values.argmax())
    return PromptMeasure(
        feed=feed,
        concept=concept,
        prompts=len(prompts),
        mean=float(values.mean()),
        worst=float(values[worst]),
        worst_prompt=prompts[worst],
        by_prompt=dict(zip(prompts, values.tolist(), strict=True)),
        distance_before=None,
        distance_after=None,
    )
