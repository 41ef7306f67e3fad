"""The columns of X and Y: which target features are sent to which anchor features.

Equal columns are found among token ids; no feature is compared.  CLIP's text encoder is causal, so
in any layer the tokens up to a position determine the feature there.  The first layer reads
features before any attention, which the token and its position alone determine.  It therefore has
duplicates, and conflicts, that deeper layers do not have.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from erasepro_convert.clip.text_encoder import Features
from erasepro_convert.clip.tokenizer import Tokens, decode, tokenize
from erasepro_convert.erase.pairing import TokenizedPair, calibration_pairs, solved_pairs
from erasepro_convert.language.moments import Reader
from erasepro_convert.manifest import Alignment, AnchorPlace, ColumnSet, Conflict
from erasepro_convert.recipe import Recipe
from erasepro_convert.recipe.sections import TokenSelection
from erasepro_convert.sd1.keys import POSITIONS

Ids = tuple[int, ...]
CALIBRATION_PAIRS = 120
"""How many pairs of prompts calibrate, if each concept can have one: more would say the same."""

FeatureKey = Callable[[Ids, int], Hashable]
"""Gives equal values for equal features, from a prompt's token ids and a position."""


@dataclass(frozen=True)
class TokenIndex:
    """Where n columns are: the row of each one's prompt (n) and its position there (n)."""

    rows: Tensor
    positions: Tensor

    def columns(self, features: Features, part: slice = slice(None)) -> Tensor:
        """Pick columns (d × n), or a part of them, out of the features of prompts."""
        return features.at(self.rows[part], self.positions[part]).T

    def __len__(self) -> int:
        """How many columns there are."""
        return len(self.rows)


@dataclass(frozen=True)
class ColumnIndex:
    """Where the n columns of X (``target``) and Y (``anchor``) are, in the same order.

    ``scales`` (n) are the roots of how many columns each one stands for.
    """

    target: TokenIndex
    anchor: TokenIndex
    scales: Tensor
    record: ColumnSet


@dataclass(frozen=True)
class PairedPrompts:
    """Target prompts and their anchor prompts as token ids, and the columns taken from them.

    Ids are P × T for target prompts and Q × T for anchor prompts; the lengths say how far each
    prompt's columns reach.  In a causal encoder later positions cannot matter.
    """

    target_ids: Tensor
    anchor_ids: Tensor
    target_lengths: tuple[int, ...]
    anchor_lengths: tuple[int, ...]
    first_layer: ColumnIndex
    deeper_layers: ColumnIndex

    def index(self, reader: Reader) -> ColumnIndex:
        """The columns of a reader: layer 1 of the text encoder has its own."""
        return self.first_layer if reader == 1 else self.deeper_layers


@dataclass(frozen=True)
class OtherPrompts:
    """Prompts that must stay as token ids (R × T), their lengths, and the features taken of them.

    ``index`` has positions from BOS to EOS.
    """

    ids: Tensor
    lengths: tuple[int, ...]
    index: TokenIndex


@dataclass(frozen=True)
class AlignedPrompts:
    """The prompts of a recipe as token ids, and the columns that a solve takes from them.

    ``retained`` indexes the distinct features of its prompts, ``calibration_others`` all of them,
    ``empty`` those of the empty prompt at all 77 positions.
    """

    solved: PairedPrompts
    retained: OtherPrompts
    calibration: PairedPrompts
    calibration_others: OtherPrompts
    empty: OtherPrompts
    record: Alignment


@lru_cache(maxsize=8)  # a batch has a few recipes and many files
def align(recipe: Recipe, already_erased: frozenset[str] = frozenset()) -> AlignedPrompts:
    """Tokenise the recipe's prompts and index the columns of X and Y.

    Targets in ``already_erased`` mean their anchors already: nothing is solved for them, and their
    prompts are retained as they are.

    Raises RecipeError for a concept that CLIP does not read at all.
    """
    new = [concept for concept in recipe.concepts if concept.target not in already_erased]
    pairs = [pair for concept in new for pair in solved_pairs(concept, recipe)]
    solved = _paired(pairs)
    kept, left_out = _retained(recipe, already_erased)
    return AlignedPrompts(
        solved=solved,
        retained=_retained_features(kept, recipe.tokens),
        calibration=_paired(_sample([list(calibration_pairs(c, recipe)) for c in new])),
        calibration_others=_others(recipe.calibration_others),
        empty=_empty_prompt(),
        record=Alignment(
            prompts=tuple(pair.record for pair in pairs),
            held=tuple(c.target for c in recipe.concepts if c.target in already_erased),
            retained=kept,
            left_out=left_out,
            first_layer=solved.first_layer.record,
            deeper_layers=solved.deeper_layers.record,
        ),
    )


def _sample(by_concept: list[list[TokenizedPair]]) -> list[TokenizedPair]:
    """Take as many pairs of each concept, of the next templates for the next concept."""
    count = max(1, CALIBRATION_PAIRS // max(1, len(by_concept)))
    return [
        pairs[(number + i) % len(pairs)]
        for number, pairs in enumerate(by_concept)
        for i in range(min(count, len(pairs)))
    ]


def _paired(pairs: list[TokenizedPair]) -> PairedPrompts:
    target_rows = _rows([pair.target for pair in pairs])
    anchor_rows = _rows([pair.anchor for pair in pairs])
    first = _columns(pairs, target_rows, anchor_rows, lambda ids, i: (i, ids[i]))
    deeper = _columns(pairs, target_rows, anchor_rows, lambda ids, i: ids[: i + 1])
    return PairedPrompts(
        target_ids=_ids(target_rows),
        anchor_ids=_ids(anchor_rows),
        target_lengths=_lengths(len(target_rows), first.target, deeper.target),
        anchor_lengths=_lengths(len(anchor_rows), first.anchor, deeper.anchor),
        first_layer=first,
        deeper_layers=deeper,
    )


def _others(prompts: Iterable[str]) -> OtherPrompts:
    """Index the features of some prompts, BOS to EOS, each where it occurs."""
    tokens = [tokenize(prompt) for prompt in prompts]
    places = [(row, i) for row, t in enumerate(tokens) for i in range(t.count)]
    return _other_prompts(tokens, _token_index(places))


def _retained_features(prompts: Iterable[str], selection: TokenSelection) -> OtherPrompts:
    """Index the distinct features of retained prompts.

    Where targets are solved for at one position alone, that is where prompts are retained: at
    their last word or at EOS.  Elsewhere they are from BOS to EOS.
    """
    tokens = [tokenize(prompt) for prompt in prompts]
    behind = {"last": 2, "eos": 1}.get(selection) if isinstance(selection, str) else None
    if behind is None:
        return _other_prompts(tokens, _distinct(tokens))
    places = [(row, t.count - behind) for row, t in enumerate(tokens) if t.count >= behind + 1]
    return _other_prompts(tokens, _token_index(places))


def _empty_prompt() -> OtherPrompts:
    tokens = tokenize("")
    places = [(0, i) for i in range(POSITIONS)]
    return OtherPrompts(_ids([tokens.ids]), (POSITIONS,), _token_index(places))


def _other_prompts(tokens: list[Tokens], index: TokenIndex) -> OtherPrompts:
    return OtherPrompts(_ids([t.ids for t in tokens]), tuple(t.count for t in tokens), index)


def _retained(
    recipe: Recipe, already_erased: frozenset[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The prompts that C counts, and prompts of the recipe that are left out for their targets."""
    if not recipe.retain.weight:
        return (), ()
    kept = recipe.without_targets(recipe.retain.prompts)
    left_out = (prompt for prompt in recipe.retain.prompts if prompt not in kept)
    erased = (
        target
        for c in recipe.concepts
        if c.target in already_erased
        for target, _ in c.prompt_pairs()
    )
    return tuple(dict.fromkeys((*kept, *erased))), tuple(left_out)


def _rows(prompts: list[Tokens]) -> dict[Ids, int]:
    """Row of each distinct prompt."""
    distinct = dict.fromkeys(tokens.ids for tokens in prompts)
    return {ids: row for row, ids in enumerate(distinct)}


def _ids(prompts: Iterable[Ids]) -> Tensor:
    return torch.tensor(list(prompts), dtype=torch.long).view(-1, POSITIONS)


def _columns(
    pairs: list[TokenizedPair],
    target_rows: dict[Ids, int],
    anchor_rows: dict[Ids, int],
    key: FeatureKey,
) -> ColumnIndex:
    """One column for each distinct pair of features, where ``key`` tells features apart."""
    claims: dict[Hashable, dict[Hashable, tuple[TokenizedPair, int, int]]] = {}
    total = 0
    for pair in pairs:
        for i, j in enumerate(pair.record.anchor_positions, pair.record.first_position):
            claim = claims.setdefault(key(pair.target.ids, i), {})
            claim.setdefault(key(pair.anchor.ids, j), (pair, i, j))
            total += 1
    kept = [column for claim in claims.values() for column in claim.values()]
    return ColumnIndex(
        target=_token_index([(target_rows[pair.target.ids], i) for pair, i, _ in kept]),
        anchor=_token_index([(anchor_rows[pair.anchor.ids], j) for pair, _, j in kept]),
        scales=torch.tensor(
            [pair.padding_weight if i >= pair.target.count else 1 for pair, i, _ in kept]
        )
        .double()
        .sqrt(),
        record=ColumnSet(
            columns=len(kept),
            merged=total - len(kept),
            conflicts=tuple(
                _conflict(list(claim.values())) for claim in claims.values() if len(claim) > 1
            ),
        ),
    )


def _lengths(prompts: int, *used: TokenIndex) -> tuple[int, ...]:
    """How far the columns reach into each prompt."""
    lengths = torch.zeros(prompts, dtype=torch.long)
    for index in used:
        lengths.scatter_reduce_(0, index.rows, index.positions + 1, "amax")
    return tuple(lengths.tolist())


def _token_index(places: list[tuple[int, int]]) -> TokenIndex:
    rows, positions = torch.tensor(places, dtype=torch.long).view(-1, 2).T
    return TokenIndex(rows, positions)


def _distinct(prompts: list[Tokens]) -> TokenIndex:
    """Index the distinct features of some prompts, BOS to EOS."""
    seen: dict[Ids, tuple[int, int]] = {}
    for row, tokens in enumerate(prompts):
        for position in range(tokens.count):
            seen.setdefault(tokens.ids[: position + 1], (row, position))
    return _token_index(list(seen.values()))


def _conflict(claims: list[tuple[TokenizedPair, int, int]]) -> Conflict:
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
