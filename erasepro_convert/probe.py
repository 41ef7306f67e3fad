"""How far an erasure got, measured without pictures: leak of targets, drift of others.

The U-Net reads a prompt through its cross-attention's keys and values alone.  With KV_o a matrix of
the original checkpoint applied to its own text features and KV_e the same of the edited one,

    leak  = ‖KV_e(target) − KV_o(anchor)‖ / ‖KV_o(target) − KV_o(anchor)‖
    drift = ‖KV_e(other) − KV_o(other)‖ / ‖KV_o(other)‖

over positions 1 … EOS of a prompt, as the mean over all 32 matrices.  Leak is 1 where nothing was
done and 0 where the target has become the anchor.  BOS says nothing, and padding would drown what
the words say.  All prompts are held out from the solve.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from erasepro_convert.clip.text_encoder import Features, Prefixes, Read, TextEncoder
from erasepro_convert.clip.tokenizer import Tokens, tokenize
from erasepro_convert.erase.features import paired_positions
from erasepro_convert.errors import CheckpointError
from erasepro_convert.layout import key_value_matrices
from erasepro_convert.layout.keys import TEXT_LAYERS
from erasepro_convert.manifest import Feed, ProbeRecord, PromptMeasure
from erasepro_convert.recipe import Recipe

DTYPE = torch.float32
"""Plenty for ratios that are read to two digits, and twice as fast as float64."""


@dataclass(frozen=True)
class _Batch:
    """Distinct prompts (B, of T tokens at most), and rows by prompt."""

    prefixes: Prefixes
    rows: dict[str, int]
    tokens: dict[str, Tokens]


@dataclass(frozen=True)
class _Segments:
    """Columns that belong to measured prompts: source rows and positions, and whose they are."""

    prompts: tuple[str, ...]
    rows: Tensor
    positions: Tensor
    owners: Tensor

    def columns(self, features: Features) -> Tensor:
        """D × n out of prompts' features."""
        return features.at(self.rows, self.positions).T

    def norms(self, columns: Tensor) -> Tensor:
        """The Frobenius norm of each prompt's columns (m × n)."""
        squares = columns.square().sum(0)
        sums = torch.zeros(len(self.prompts), dtype=squares.dtype)
        return sums.index_add(0, self.owners, squares).sqrt()


def probe(recipe: Recipe, original: Read, edited: Read) -> ProbeRecord:
    """Measure the checkpoint that ``edited`` reads against the one that ``original`` reads.

    Raises RecipeError for a concept that CLIP does not read, CheckpointError for features that are
    not finite.
    """
    others = recipe.without_targets(recipe.probe.others)
    pairs = [pair for concept in recipe.concepts for pair in paired_positions(concept, recipe)]
    batch = _batch([*(p.target for p in pairs), *(p.anchor for p in pairs), *others])
    targets = _segments(batch, [(p.target, range(1, len(p.positions))) for p in pairs])
    anchors = _segments(batch, [(p.anchor, p.positions[1:]) for p in pairs])
    kept = _segments(batch, [(o, range(1, batch.tokens[o].count)) for o in others])

    encoders = TextEncoder(original, DTYPE), TextEncoder(edited, DTYPE)
    stock, changed = _features(encoders, batch.prefixes, recipe)
    segments = (targets, kept, anchors)
    unedited = {s: torch.cat([part.columns(f) for part in segments], 1) for s, f in stock.items()}
    fed = {s: torch.cat([part.columns(f) for part in segments[:2]], 1) for s, f in changed.items()}
    widths = [len(part.rows) for part in segments]
    feeds = [
        *((Feed(text_encoder="edited", clip_skip=s), fed[s], unedited[s]) for s in fed),
        *(
            (Feed(text_encoder="stock", clip_skip=s), columns[:, : sum(widths[:2])], columns)
            for s, columns in unedited.items()
        ),
    ]
    starts = [torch.zeros(len(pairs), dtype=DTYPE) for _ in feeds]
    ends = [torch.zeros(len(pairs), dtype=DTYPE) for _ in feeds]
    leaks = [torch.zeros(len(pairs), dtype=DTYPE) for _ in feeds]
    drifts = [torch.zeros(len(others), dtype=DTYPE) for _ in feeds]
    matrices = key_value_matrices()
    for name in matrices:
        before, after = original(name).to(DTYPE), edited(name).to(DTYPE)
        for i, (_, x, x_o) in enumerate(feeds):
            target, was, goal = (before @ x_o).split(widths, dim=1)
            target_now, now = (after @ x).split(widths[:2], dim=1)
            apart = targets.norms(target - goal)
            left = targets.norms(target_now - goal)
            leaks[i] += left / apart / len(matrices)
            size = targets.norms(goal) * len(matrices)
            ends[i] += left / size
            starts[i] += apart / size
            drifts[i] += kept.norms(now - was) / kept.norms(was) / len(matrices)
    names = [pair.concept for pair in pairs]
    mine = {
        concept: torch.tensor([i for i, name in enumerate(names) if name == concept])
        for concept in dict.fromkeys(names)
    }
    return ProbeRecord(
        leak=tuple(
            _of_concept(feed, concept, chosen, targets.prompts, values)
            for (feed, _, _), *values in zip(feeds, leaks, starts, ends, strict=True)
            for concept, chosen in mine.items()
        ),
        drift=tuple(
            _measure(feed, None, kept.prompts, drift)
            for (feed, _, _), drift in zip(feeds, drifts, strict=True)
        ),
    )


def _batch(prompts: Sequence[str]) -> _Batch:
    tokens = {prompt: tokenize(prompt) for prompt in prompts}
    length = max(t.count for t in tokens.values())
    ids = torch.tensor([t.ids[:length] for t in tokens.values()])
    prefixes = Prefixes.of(ids, [t.count for t in tokens.values()])
    return _Batch(prefixes, {prompt: row for row, prompt in enumerate(tokens)}, tokens)


def _segments(batch: _Batch, measured: list[tuple[str, Sequence[int]]]) -> _Segments:
    rows, positions, owners = [], [], []
    for owner, (prompt, places) in enumerate(measured):
        rows += [batch.rows[prompt]] * len(places)
        positions += list(places)
        owners += [owner] * len(places)
    return _Segments(
        tuple(prompt for prompt, _ in measured),
        torch.tensor(rows),
        torch.tensor(positions),
        torch.tensor(owners),
    )


def _features(
    encoders: Sequence[TextEncoder], prompts: Prefixes, recipe: Recipe
) -> list[dict[int, Features]]:
    """Text features of each encoder by clip skip, layer by layer so that each is read once."""
    hidden = [encoder.embed(prompts) for encoder in encoders]
    features: list[dict[int, Features]] = [{} for _ in encoders]
    for number in range(1, TEXT_LAYERS + 1):
        for i, encoder in enumerate(encoders):
            hidden[i] = encoder.layer(number)(hidden[i], prompts)
            if (skip := TEXT_LAYERS + 1 - number) in recipe.clip_skip:
                fed = encoder.final_norm(hidden[i])
                if not torch.isfinite(fed).all():
                    raise CheckpointError(
                        "text features are not finite: the text encoder is damaged"
                    )
                features[i][skip] = prompts.features(fed)
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
