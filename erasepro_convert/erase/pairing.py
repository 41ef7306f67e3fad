"""Which position of a target prompt is sent to which position of its anchor prompt."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from erasepro_convert.clip.tokenizer import Tokens, tokenize
from erasepro_convert.manifest import PromptPair
from erasepro_convert.recipe import Recipe
from erasepro_convert.recipe.fields import PLACEHOLDER
from erasepro_convert.recipe.sections import Concept, FirstPositions
from erasepro_convert.sd1.keys import POSITIONS


@dataclass(frozen=True)
class TokenizedPair:
    """A target prompt and its anchor prompt as tokens, with their record for the manifest.

    ``padding_weight`` is how many prompts its padding stands for.
    """

    record: PromptPair
    target: Tokens
    anchor: Tokens
    padding_weight: int = 1


@dataclass(frozen=True)
class HeldOutPair:
    """A prompt pair that is measured and never solved for.

    ``positions`` has the anchor's position for each position up to the target's EOS.
    """

    concept: str
    target: str
    anchor: str
    positions: tuple[int, ...]


def held_out_pairs(concept: Concept, recipe: Recipe) -> Iterator[HeldOutPair]:
    """Pair the probe's prompts for a concept, by word whatever the recipe's pairing is.

    Raises RecipeError for a concept that CLIP does not read at all.
    """
    for template in recipe.probe.prompts:
        yield held_out_pair(concept, template)


def held_out_pair(concept: Concept, template: str) -> HeldOutPair:
    """Pair the prompts of one template by word.

    Raises RecipeError for a concept that CLIP does not read at all, and for a prompt that does not
    fit into 77 tokens.
    """
    ((target_text, anchor_text),) = concept.prompt_pairs((template,))
    target, anchor = tokenize(target_text), tokenize(anchor_text)
    positions = _word_positions(template, concept, target, anchor, range(target.count))
    return HeldOutPair(concept.target, target_text, anchor_text, positions)


def solved_pairs(concept: Concept, recipe: Recipe) -> Iterator[TokenizedPair]:
    """Pair the prompts that are solved for, as the recipe's ``pairing`` and ``tokens`` say.

    Where padding counts, that of the first prompt stands for all: the padding of a concept's
    prompts is much alike, and there is more of it than of all else.

    Raises RecipeError for a concept that CLIP does not read at all.
    """
    for template, (target_text, anchor_text) in zip(
        concept.prompts, concept.prompt_pairs(), strict=True
    ):
        target, anchor = tokenize(target_text), tokenize(anchor_text)
        has_padding = recipe.tokens == "padded" and template == concept.prompts[0]
        if recipe.tokens == "last":
            end = span_of(template, concept.target, target)[1]
            length = range(end - 1, end)
        else:
            length = range(POSITIONS) if has_padding else _length(recipe, target, anchor)
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
            first_position=length.start,
            anchor_positions=positions,
        )
        weight = len(concept.prompts) if has_padding else 1
        yield TokenizedPair(record, target, anchor, weight)


def calibration_pairs(concept: Concept, recipe: Recipe) -> Iterator[TokenizedPair]:
    """Pair the prompts that matrices are calibrated on, by word, up to the target's EOS.

    Raises RecipeError for a concept that CLIP does not read at all.
    """
    templates = recipe.calibration_templates(concept)
    filled = concept.prompt_pairs(templates)
    for template, (target_text, anchor_text) in zip(templates, filled, strict=True):
        target, anchor = tokenize(target_text), tokenize(anchor_text)
        positions = _word_positions(template, concept, target, anchor, range(target.count))
        record = PromptPair(
            target=target_text,
            anchor=anchor_text,
            target_tokens=target.count,
            anchor_tokens=anchor.count,
            pairing="word",
            anchor_positions=positions,
        )
        yield TokenizedPair(record, target, anchor)


def _word_positions(
    template: str, concept: Concept, target: Tokens, anchor: Tokens, length: range
) -> tuple[int, ...]:
    """The anchor's position for each of the target's positions in ``length``."""
    span = span_of(template, concept.target, target)
    if concept.anchor:
        spans = span, span_of(template, concept.anchor, anchor)
    else:
        spans = span, (span[0], span[0])
    return tuple(_by_word(i, *spans, target.count, anchor.count) for i in length)


def span_of(template: str, words: str, tokens: Tokens) -> tuple[int, int]:
    """The positions, from one to before another, of the words that take the placeholder's place."""
    start = template.index(PLACEHOLDER)
    return tokens.covering(start, start + len(words))


def _length(recipe: Recipe, target: Tokens, anchor: Tokens) -> range:
    """The positions of the target prompt that become columns (recipe key ``tokens``)."""
    if isinstance(recipe.tokens, FirstPositions):
        return range(recipe.tokens.first)
    if recipe.tokens == "eos":
        return range(target.count - 1, target.count)
    return range(POSITIONS if recipe.tokens == "all" else max(target.count, anchor.count))


def _by_word(
    i: int,
    target_span: tuple[int, int],
    anchor_span: tuple[int, int],
    target_count: int,
    anchor_count: int,
) -> int:
    """The anchor's position for the target's position ``i``.

    Tokens before the concept are sent to themselves.  Tokens after it, EOS included, are sent to
    themselves at their shifted position, and padding is sent to padding.  The concept's tokens are
    spread over the anchor's in order, and the last one is sent to the last one: in a causal encoder
    it is the token that has read the whole concept.  Where the anchor is empty, the concept's
    tokens are sent to the token that follows (EOS, if none does), which has read the rest of the
    prompt up to there.
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
