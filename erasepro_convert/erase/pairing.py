"""Prompt pairs to columns: which target feature is sent to which anchor feature.

Equal columns are found once, among token ids, and no feature is compared.  CLIP's text encoder is
causal, so in any layer a feature is determined by the tokens up to its position.  What the first
layer reads has seen no attention yet: there the token and its position alone determine it.  So the
first layer has duplicates, and conflicts, that deeper ones do not have.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil

import torch
from torch import Tensor

from erasepro_convert.clip.text_encoder import Features
from erasepro_convert.clip.tokenizer import Tokens, decode, tokenize
from erasepro_convert.manifest import Alignment, AnchorPlace, ColumnSet, Conflict, PromptPair
from erasepro_convert.recipe import Recipe
from erasepro_convert.recipe.fields import PLACEHOLDER
from erasepro_convert.recipe.sections import Concept, FirstPositions
from erasepro_convert.sd1.keys import POSITIONS

Ids = tuple[int, ...]
Key = Callable[[Ids, int], Hashable]


@dataclass(frozen=True)
class Places:
    """Where columns are picked: for each, the row of its prompt and the position in it."""

    rows: Tensor
    positions: Tensor

    def columns(self, features: Features, part: slice = slice(None)) -> Tensor:
        """ColumnPlaces (d × n), or a part of them, out of prompts' features."""
        return features.at(self.rows[part], self.positions[part]).T

    def __len__(self) -> int:
        """How many columns there are."""
        return len(self.rows)


@dataclass(frozen=True)
class ColumnPlaces:
    """The places of X's columns and of Y's, in the same order, and their record."""

    target: Places
    anchor: Places
    record: ColumnSet


@dataclass(frozen=True)
class Aligned:
    """Token ids of target prompts (P × T), anchor prompts (Q × T), retained ones (R × T); columns.

    T reaches as far as any column does, and the lengths say how far each prompt's do; later
    positions cannot matter to a causal encoder.  ``retained`` are the distinct features of the
    retained prompts, BOS to EOS.
    """

    target_ids: Tensor
    anchor_ids: Tensor
    retained_ids: Tensor
    target_lengths: tuple[int, ...]
    anchor_lengths: tuple[int, ...]
    retained_lengths: tuple[int, ...]
    first_layer: ColumnPlaces
    deeper_layers: ColumnPlaces
    retained: Places
    record: Alignment


@dataclass(frozen=True)
class _Pair:
    record: PromptPair
    target: Tokens
    anchor: Tokens


@lru_cache(maxsize=8)  # a batch has a few recipes and many files
def align(recipe: Recipe, held: frozenset[str] = frozenset()) -> Aligned:
    """Tokenise the recipe's prompts and pair their positions.

    Targets in ``held`` mean their anchors already: nothing is solved for them, and their prompts
    are retained as they are.

    Raises RecipeError for a concept that CLIP does not read at all.
    """
    new = [concept for concept in recipe.concepts if concept.target not in held]
    pairs = [pair for concept in new for pair in _pairs(recipe, concept)]
    target_rows = _rows([pair.target for pair in pairs])
    anchor_rows = _rows([pair.anchor for pair in pairs])
    first = _columns(pairs, target_rows, anchor_rows, lambda ids, i: (i, ids[i]))
    deeper = _columns(pairs, target_rows, anchor_rows, lambda ids, i: ids[: i + 1])
    kept, left_out = _retained(recipe, held)
    retained = [tokenize(prompt) for prompt in kept]
    lengths = [
        1 + max(len(p.record.anchor_positions) - 1, *p.record.anchor_positions) for p in pairs
    ]
    length = max([1, *lengths, *(tokens.count for tokens in retained)])
    return Aligned(
        target_ids=_ids(target_rows, length),
        anchor_ids=_ids(anchor_rows, length),
        retained_ids=_ids([tokens.ids for tokens in retained], length),
        target_lengths=_lengths(len(target_rows), first.target, deeper.target),
        anchor_lengths=_lengths(len(anchor_rows), first.anchor, deeper.anchor),
        retained_lengths=tuple(tokens.count for tokens in retained),
        first_layer=first,
        deeper_layers=deeper,
        retained=_distinct(retained),
        record=Alignment(
            prompts=tuple(pair.record for pair in pairs),
            held=tuple(c.target for c in recipe.concepts if c.target in held),
            retained=kept,
            left_out=left_out,
            first_layer=first.record,
            deeper_layers=deeper.record,
        ),
    )


def _retained(recipe: Recipe, held: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The prompts whose features weigh the update, and the recipe's that name a target."""
    if not recipe.retain.weight:
        return (), ()
    kept = recipe.without_targets(recipe.retain.prompts)
    left_out = (prompt for prompt in recipe.retain.prompts if prompt not in kept)
    erased = (target for c in recipe.concepts if c.target in held for target, _ in c.prompt_pairs())
    return tuple(dict.fromkeys((*kept, *erased))), tuple(left_out)


def _rows(prompts: list[Tokens]) -> dict[Ids, int]:
    """Row of each distinct prompt."""
    distinct = dict.fromkeys(tokens.ids for tokens in prompts)
    return {ids: row for row, ids in enumerate(distinct)}


def _ids(prompts: Iterable[Ids], length: int) -> Tensor:
    return torch.tensor([ids[:length] for ids in prompts], dtype=torch.long).view(-1, length)


def _columns(
    pairs: list[_Pair], target_rows: dict[Ids, int], anchor_rows: dict[Ids, int], key: Key
) -> ColumnPlaces:
    """One column for each distinct pair of features, where ``key`` tells features apart."""
    claims: dict[Hashable, dict[Hashable, tuple[_Pair, int, int]]] = {}
    total = 0
    for pair in pairs:
        for i, j in enumerate(pair.record.anchor_positions):
            claim = claims.setdefault(key(pair.target.ids, i), {})
            claim.setdefault(key(pair.anchor.ids, j), (pair, i, j))
            total += 1
    kept = [place for claim in claims.values() for place in claim.values()]
    return ColumnPlaces(
        target=_places([(target_rows[pair.target.ids], i) for pair, i, _ in kept]),
        anchor=_places([(anchor_rows[pair.anchor.ids], j) for pair, _, j in kept]),
        record=ColumnSet(
            columns=len(kept),
            merged=total - len(kept),
            conflicts=tuple(
                _conflict(list(claim.values())) for claim in claims.values() if len(claim) > 1
            ),
        ),
    )


def _lengths(prompts: int, *used: Places) -> tuple[int, ...]:
    """How far into each prompt columns reach."""
    lengths = torch.zeros(prompts, dtype=torch.long)
    for places in used:
        lengths.scatter_reduce_(0, places.rows, places.positions + 1, "amax")
    return tuple(lengths.tolist())


def _places(places: list[tuple[int, int]]) -> Places:
    rows, positions = torch.tensor(places, dtype=torch.long).view(-1, 2).T
    return Places(rows, positions)


def _distinct(prompts: list[Tokens]) -> Places:
    """The places of the distinct features of some prompts, BOS to EOS."""
    seen: dict[Ids, tuple[int, int]] = {}
    for row, tokens in enumerate(prompts):
        for position in range(tokens.count):
            seen.setdefault(tokens.ids[: position + 1], (row, position))
    return _places(list(seen.values()))


def _conflict(claims: list[tuple[_Pair, int, int]]) -> Conflict:
    pair, position, _ = claims[0]
    return Conflict(
        target_prompt=pair.record.target,
        position=position,
        token=decode(pair.target.ids[position]),
        anchors=tuple(
            AnchorPlace(prompt=other.record.anchor, position=j, token=decode(other.anchor.ids[j]))
            for other, _, j in claims
        ),
    )


@dataclass(frozen=True)
class Paired:
    """A held-out prompt pair: for each position up to the target's EOS, the anchor's position."""

    concept: str
    target: str
    anchor: str
    positions: tuple[int, ...]


def paired_positions(concept: Concept, recipe: Recipe) -> Iterator[Paired]:
    """The probe's prompt pairs of a concept, paired by word whatever the recipe's pairing is.

    Raises RecipeError for a concept that CLIP does not read at all.
    """
    templates = recipe.probe.prompts
    filled = concept.prompt_pairs(templates)
    for template, (target_text, anchor_text) in zip(templates, filled, strict=True):
        target, anchor = tokenize(target_text), tokenize(anchor_text)
        length = range(target.count)
        positions = _word_positions(template, concept, target, anchor, length)
        yield Paired(concept.target, target_text, anchor_text, positions)


def _pairs(recipe: Recipe, concept: Concept) -> Iterator[_Pair]:
    for template, (target_text, anchor_text) in zip(
        concept.prompts, concept.prompt_pairs(), strict=True
    ):
        target, anchor = tokenize(target_text), tokenize(anchor_text)
        length = _length(recipe, target, anchor)
        if recipe.pairing == "position":
            positions = tuple(length)
        else:
            positions = _word_positions(template, concept, target, anchor, length)
        record = PromptPair(
            target=target_text,
            anchor=anchor_text,
            target_tokens=target.count,
            anchor_tokens=anchor.count,
            pairing=recipe.pairing,
            anchor_positions=positions,
        )
        yield _Pair(record, target, anchor)


def _word_positions(
    template: str, concept: Concept, target: Tokens, anchor: Tokens, length: range
) -> tuple[int, ...]:
    """The anchor's position for each of the target's."""
    start = template.index(PLACEHOLDER)
    span = target.covering(start, start + len(concept.target))
    if concept.anchor:
        spans = span, anchor.covering(start, start + len(concept.anchor))
    else:
        spans = span, (span[0], span[0])
    return tuple(_by_word(i, *spans, target.count, anchor.count) for i in length)


def _length(recipe: Recipe, target: Tokens, anchor: Tokens) -> range:
    """The positions of the target prompt that become columns (recipe key ``tokens``)."""
    if isinstance(recipe.tokens, FirstPositions):
        return range(recipe.tokens.first)
    return range(POSITIONS if recipe.tokens == "all" else max(target.count, anchor.count))


def _by_word(
    i: int,
    target_span: tuple[int, int],
    anchor_span: tuple[int, int],
    target_count: int,
    anchor_count: int,
) -> int:
    """The anchor's position for the target's position ``i``.

    What stands before the concept goes to itself, what stands after it (EOS too) to itself shifted,
    padding to padding, and the concept's tokens to the anchor's: stretched, in order, last to last,
    since in a causal encoder the last token is the one that knows the whole concept.  Where the
    anchor is empty they go to what comes next (EOS, if nothing does), which has read all that is
    left of the prompt so far.
    """
    (t_start, t_end), (a_start, a_end) = target_span, anchor_span
    if i < t_start:
        return i
    if i < t_end and a_start == a_end:
        return a_start
    if i < t_end:
        share = Fraction(i - t_start + 1, t_end - t_start)
        return a_start + ceil(share * (a_end - a_start)) - 1
    if i < target_count:
        return i - t_end + a_end
    return min(max(i, anchor_count), POSITIONS - 1)
