"""How far an erasure got, measured without pictures: leak of targets, drift of others.

The U-Net reads a prompt through its cross-attention's keys and values alone.  With KV_o a matrix of
the original checkpoint applied to its own text features and KV_e the same of the edited one,

    leak  = ‖KV_e(target) − KV_o(anchor)‖ / ‖KV_o(target) − KV_o(anchor)‖
    drift = ‖KV_e(other) − KV_o(other)‖ / ‖KV_o(other)‖

over positions 1 … EOS of a prompt, as the mean over all 32 matrices.  Leak is 1 where nothing was
done and 0 where the target has become the anchor.  BOS says nothing, and padding would drown what
the words say.  All prompts are held out from the solve.

Where the original was erased before, KV_o(target) is near KV_o(anchor) already, and a share of that
remainder says nothing.  Leak of a target that is said to be held is therefore a share of how far
other words in the target's place are from the anchor: the root mean square over positions and
``recipe.prompts.WORDS``.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from erasepro_convert.clip.text_encoder import Prefixes, ReadRows, ReadTensor, TextEncoder
from erasepro_convert.clip.tokenizer import Tokens, tokenize
from erasepro_convert.erase.pairing import Paired, paired_positions
from erasepro_convert.errors import CheckpointError
from erasepro_convert.manifest import Feed, ProbeRecord, PromptMeasure
from erasepro_convert.recipe import Concept, Recipe
from erasepro_convert.recipe.default_prompts import WORDS
from erasepro_convert.runtime.threads import parallel_map
from erasepro_convert.sd1 import key_value_matrices
from erasepro_convert.sd1.keys import TEXT_LAYERS

DTYPE = torch.float32
"""Plenty for ratios that are read to two digits, and twice as fast as float64."""


PART = 2048
"""Pairs of features that are measured together."""


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

    def parts(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Some pairs at a time: left, the distinct ones of right, and which of these each has."""
        for left, right in zip(self.left.split(PART), self.right.split(PART), strict=True):
            yield left, *right.unique(return_inverse=True)

    def by_prompt(self, squares: list[Tensor]) -> Tensor:
        """The root of the sum over each prompt, given the squares of the distinct pairs."""
        of_pairs = torch.cat(squares)
        sums = torch.zeros(len(self.prompts), dtype=of_pairs.dtype)
        return sums.index_add(0, self.owners, of_pairs[self.each]).sqrt()

    @property
    def lengths(self) -> Tensor:
        """How many positions of each prompt are measured."""
        return self.owners.bincount(minlength=len(self.prompts))


@dataclass(frozen=True)
class _Fed:
    """What a text encoder feeds to the U-Net: ``norm`` of ``hidden`` (N × d)."""

    hidden: Tensor
    norm: Callable[[Tensor], Tensor]

    def at(self, nodes: Tensor) -> Tensor:
        """Features (n × d)."""
        return self.norm(self.hidden[nodes])


@dataclass(frozen=True)
class _OtherWords:
    """Pairs with other words in a held target's place; ``stands_for`` says which target's pair."""

    pairs: _Pairs
    stands_for: Tensor

    def unit(self, squares: list[Tensor], targets: _Pairs, start: Tensor) -> Tensor:
        """What leak counts as 1, by target prompt: ``start`` where no other words stand for it.

        ``squares`` are of the distinct pairs of other words and anchor.
        """
        by_position = self.pairs.by_prompt(squares).square() / self.pairs.lengths
        sums = torch.zeros_like(start).index_add(0, self.stands_for, by_position)
        counts = self.stands_for.bincount(minlength=len(start))
        return torch.where(counts > 0, (targets.lengths * sums / counts).sqrt(), start)


@dataclass(frozen=True)
class _Measures:
    """By prompt, for one feed and one matrix; ``before`` is leak in the original."""

    leak: Tensor
    before: Tensor
    start: Tensor
    end: Tensor
    drift: Tensor


def probe(
    recipe: Recipe,
    original: ReadTensor,
    edited: ReadTensor,
    rows: tuple[ReadRows, ReadRows] | None = None,
    held: Collection[str] = (),
) -> ProbeRecord:
    """Measure the checkpoint that ``edited`` reads against the one that ``original`` reads.

    ``rows`` gives rows of their token embeddings, which then need not be read as a whole.
    ``held`` are targets that were erased from the original before: see the top of this module.

    Raises RecipeError for a concept that CLIP does not read, CheckpointError for features that are
    not finite.
    """
    others = recipe.without_targets(recipe.probe.others)
    pairs = [pair for concept in recipe.concepts for pair in paired_positions(concept, recipe)]
    instead = [found for concept in recipe.concepts for found in _instead(concept, recipe, held)]
    measured = [*pairs, *(pair for _, pair in instead)]
    tokens = {
        prompt: tokenize(prompt)
        for prompt in (*(p.target for p in measured), *(p.anchor for p in measured), *others)
    }
    prefixes, beginnings = _beginnings(tokens)
    targets = _paired(beginnings, pairs)
    other_words = None
    if instead:
        row = {pair: number for number, pair in enumerate(pairs)}
        stands_for = torch.tensor([row[pair] for pair, _ in instead])
        other_words = _OtherWords(_paired(beginnings, [p for _, p in instead]), stands_for)
    spans = {other: range(1, tokens[other].count) for other in others}
    kept = _pairs(beginnings, [(o, span, o, span) for o, span in spans.items()])

    of_original, of_edited = rows or (None, None)
    encoders = TextEncoder(original, DTYPE, of_original), TextEncoder(edited, DTYPE, of_edited)
    stock, changed = _features(encoders, prefixes, recipe)
    feeds = {
        **{Feed(text_encoder="edited", clip_skip=skip): fed for skip, fed in changed.items()},
        **{Feed(text_encoder="stock", clip_skip=skip): fed for skip, fed in stock.items()},
    }

    def measures(name: str) -> list[_Measures]:
        before, after = original(name).to(DTYPE).T, edited(name).to(DTYPE).T
        found: dict[Feed, _Measures] = {}
        for skip, unedited in stock.items():
            mine = {feed: fed for feed, fed in feeds.items() if feed.clip_skip == skip}
            found |= _measures(before, after, unedited, mine, targets, kept, other_words)
        return [found[feed] for feed in feeds]

    matrices = key_value_matrices()
    by_feed = [*zip(*parallel_map(measures, matrices), strict=True)]
    leaks = [torch.stack([m.leak for m in found]).mean(0) for found in by_feed]
    befores = [torch.stack([m.before for m in found]).mean(0) for found in by_feed]
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
            for feed, *values in zip(feeds, leaks, befores, starts, ends, strict=True)
            for concept, chosen in mine.items()
        ),
        drift=tuple(
            _measure(feed, None, kept.prompts, drift, before=0.0)
            for feed, drift in zip(feeds, drifts, strict=True)
        ),
    )


def _instead(
    concept: Concept, recipe: Recipe, held: Collection[str]
) -> Iterator[tuple[Paired, Paired]]:
    """Each held-out pair of a held concept, with one that has other words in the target's place.

    Words that target and anchor share stay: beside "nude woman" stands "dog woman".
    """
    if concept.target not in held:
        return
    words, anchor = concept.target.split(), concept.anchor.casefold().split()
    own = [i for i, word in enumerate(words) if word.casefold() not in anchor] or range(len(words))
    free = [word for word in WORDS if word not in {*map(str.casefold, words), *anchor}]
    for start in range(len(free)):
        changed = {i: free[(start + n) % len(free)] for n, i in enumerate(own)}
        target = " ".join(changed.get(i, word) for i, word in enumerate(words))
        other = concept.model_copy(update={"target": target})
        yield from zip(
            paired_positions(concept, recipe), paired_positions(other, recipe), strict=True
        )


def _beginnings(tokens: Mapping[str, Tokens]) -> tuple[Prefixes, dict[str, Tensor]]:
    """The distinct beginnings of prompts, and which of them each prompt's positions have."""
    length = max(t.count for t in tokens.values())
    ids = torch.tensor([t.ids[:length] for t in tokens.values()])
    prefixes = Prefixes.from_token_ids(ids, [t.count for t in tokens.values()])
    return prefixes, dict(zip(tokens, prefixes.prefix_at, strict=True))


def _paired(beginnings: Mapping[str, Tensor], pairs: Sequence[Paired]) -> _Pairs:
    return _pairs(
        beginnings,
        [(p.target, range(1, len(p.positions)), p.anchor, p.positions[1:]) for p in pairs],
    )


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


def _measures(
    before: Tensor,
    after: Tensor,
    unedited: _Fed,
    feeds: Mapping[Feed, _Fed],
    targets: _Pairs,
    kept: _Pairs,
    other_words: _OtherWords | None,
) -> dict[Feed, _Measures]:
    """How one matrix (d × m, as it was and as it is) answers to each feed."""
    sizes, starts, were = [], [], []
    lefts: dict[Feed, list[Tensor]] = {feed: [] for feed in feeds}
    moved: dict[Feed, list[Tensor]] = {feed: [] for feed in feeds}
    for target, anchor, each in targets.parts():
        goal = (unedited.at(anchor) @ before)[each]
        sizes.append(_squares(goal))
        starts.append(_squares(unedited.at(target) @ before - goal))
        for feed, fed in feeds.items():
            lefts[feed].append(_squares(fed.at(target) @ after - goal))
    for other, _, _ in kept.parts():
        was = unedited.at(other) @ before
        were.append(_squares(was))
        for feed, fed in feeds.items():
            moved[feed].append(_squares(fed.at(other) @ after - was))
    size, start, stay = targets.by_prompt(sizes), targets.by_prompt(starts), kept.by_prompt(were)
    unit = start
    if other_words:
        squares = [
            _squares(unedited.at(word) @ before - (unedited.at(anchor) @ before)[each])
            for word, anchor, each in other_words.pairs.parts()
        ]
        unit = other_words.unit(squares, targets, start)
    found = {}
    for feed in feeds:
        left, drift = targets.by_prompt(lefts[feed]), kept.by_prompt(moved[feed]) / stay
        found[feed] = _Measures(left / unit, start / unit, start / size, left / size, drift)
    return found


def _squares(rows: Tensor) -> Tensor:
    return rows.square().sum(1)


def _features(
    encoders: Sequence[TextEncoder], prompts: Prefixes, recipe: Recipe
) -> list[dict[int, _Fed]]:
    """What each encoder feeds by clip skip, made layer by layer."""
    hidden = [encoder.embed(prompts) for encoder in encoders]
    features: list[dict[int, _Fed]] = [{} for _ in encoders]
    for number in range(1, TEXT_LAYERS + 1):
        for i, encoder in enumerate(encoders):
            hidden[i] = encoder.layer(number)(hidden[i], prompts)
            if (skip := TEXT_LAYERS + 1 - number) in recipe.clip_skip:
                if not torch.isfinite(torch.stack(torch.aminmax(hidden[i]))).all():
                    raise CheckpointError(
                        "text features are not finite: the text encoder is damaged"
                    )
                features[i][skip] = _Fed(hidden[i], encoder.final_norm)
    return features


def _of_concept(
    feed: Feed, concept: str, mine: Tensor, prompts: tuple[str, ...], values: list[Tensor]
) -> PromptMeasure:
    leak, before, start, end = (value[mine] for value in values)
    chosen = tuple(prompts[i] for i in mine.tolist())
    measure = _measure(feed, concept, chosen, leak, before=float(before.mean()))
    distances = {"distance_before": float(start.mean()), "distance_after": float(end.mean())}
    return measure.model_copy(update=distances)


def _measure(
    feed: Feed, concept: str | None, prompts: tuple[str, ...], values: Tensor, *, before: float
) -> PromptMeasure:
    worst = int(values.argmax())
    return PromptMeasure(
        feed=feed,
        concept=concept,
        prompts=len(prompts),
        before=before,
        mean=float(values.mean()),
        worst=float(values[worst]),
        worst_prompt=prompts[worst],
        by_prompt=dict(zip(prompts, values.tolist(), strict=True)),
        distance_before=None,
        distance_after=None,
    )
