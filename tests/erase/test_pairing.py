"""Which position of a target prompt goes to which position of its anchor prompt."""

from collections import Counter
from collections.abc import Callable

import pytest
import torch

from erasepro_convert.clip.text_encoder import Features
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.erase.columns import align
from erasepro_convert.erase.pairing import held_out_pairs
from erasepro_convert.recipe import Recipe

MakeRecipe = Callable[[str], Recipe]


def positions(
    make_recipe: MakeRecipe, target: str, anchor: str, prompt: str = "{}", more: str = ""
) -> tuple[int, ...]:
    text = (
        f"version: 1\nconcepts: [{{target: {target}, anchor: '{anchor}', prompts: ['{prompt}']}}]"
    )
    tokens = "" if "tokens" in more else "tokens: prompt\n"
    (pair,) = align(make_recipe(f"{text}\n{tokens}{more}")).record.prompts
    return pair.anchor_positions


@pytest.mark.parametrize(
    ("target", "anchor", "prompt", "expected"),
    [
        # as long as its anchor: each position to itself
        ("grumpy cat", "cute cat", "{}", (0, 1, 2, 3)),
        # BOS, van → artist, gogh → artist, EOS → EOS
        ("van gogh", "artist", "{}", (0, 1, 1, 2)),
        # shorter than its anchor: the one word knows all, so it goes to the last; padding last
        ("artist", "van gogh", "{}", (0, 2, 3, 4)),
        # r 2 d 2 → a big red robot: in order, last to last
        ("R2D2", "big robot", "{}", (0, 1, 1, 2, 2, 3)),
        ("big robot", "R2D2", "{}", (0, 2, 4, 5, 6, 6)),
        # what stands around the concept goes to itself, shifted behind it
        ("van gogh", "artist", "a painting by {} at night", (0, 1, 2, 3, 4, 4, 5, 6, 7)),
        ("artist", "van gogh", "a painting by {} at night", (0, 1, 2, 3, 5, 6, 7, 8, 9)),
    ],
)
def test_pairing_by_word(
    make_recipe: MakeRecipe, target: str, anchor: str, prompt: str, expected: tuple[int, ...]
) -> None:
    assert positions(make_recipe, target, anchor, prompt) == expected


def test_pairing_by_position(make_recipe: MakeRecipe) -> None:
    found = positions(make_recipe, "van gogh", "artist", more="pairing: position")
    assert found == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("tokens", "target", "anchor", "prompt", "first", "expected"),
    [
        ("last", "van gogh", "artist", "a painting by {} at night", 5, (4,)),
        ("last", "artist", "van gogh", "{}", 1, (2,)),
        ("last", "van gogh", "", "a {} here", 3, (2,)),  # to what comes next
        ("eos", "van gogh", "artist", "a {}", 4, (3,)),
    ],
)
def test_one_position_of_each_prompt(
    make_recipe: MakeRecipe, tokens: str, target: str, anchor: str, prompt: str, first: int,
    expected: tuple[int, ...],
) -> None:  # fmt: skip
    concept = f"{{target: {target}, anchor: '{anchor}', prompts: ['{prompt}']}}"
    recipe = make_recipe(f"version: 1\nconcepts: [{concept}]\ntokens: {tokens}\n")
    aligned = align(recipe)
    (pair,) = aligned.record.prompts
    assert (pair.first_position, pair.anchor_positions) == (first, expected)
    assert aligned.solved.deeper_layers.target.positions.tolist() == [first]
    behind = 2 if tokens == "last" else 1
    ends = [tokenize(text).count - behind for text in aligned.record.retained]
    kept = [end for end in ends if end > 0]  # the empty prompt has no word
    assert aligned.retained.index.positions.tolist() == kept


@pytest.mark.parametrize(
    ("prompt", "anchor", "expected"),
    [
        ("{}", "", (0, 1, 1, 1)),  # BOS, both words and EOS → the empty prompt's EOS
        ("a {}", "a", (0, 1, 2, 2, 2)),
        # the words go to "on", which comes next; what stands behind them to itself
        ("a {} on a beach", "a on a beach", (0, 1, 2, 2, 2, 3, 4, 5)),
        ("{}, sunny", ", sunny", (0, 1, 1, 1, 2, 3)),
    ],
)
def test_an_empty_anchor_leaves_the_prompt_without_the_words(
    make_recipe: MakeRecipe, prompt: str, anchor: str, expected: tuple[int, ...]
) -> None:
    recipe = make_recipe(
        "version: 1\ntokens: prompt\n"
        f"concepts: [{{target: stark naked, anchor: '', prompts: ['{prompt}']}}]"
    )
    (pair,) = align(recipe).record.prompts
    assert (pair.anchor, pair.anchor_positions) == (anchor, expected)


@pytest.mark.parametrize(("tokens", "count"), [("prompt", 4), ("{first: 8}", 8), ("all", 77)])
def test_tokens(make_recipe: MakeRecipe, tokens: str, count: int) -> None:
    found = positions(make_recipe, "van gogh", "artist", more=f"tokens: {tokens}")
    assert len(found) == count
    assert found[:4] == (0, 1, 1, 2)
    assert found[4:] == tuple(range(4, count)), "padding goes to padding in its place"


def test_a_full_prompt_has_no_padding_to_pair(make_recipe: MakeRecipe) -> None:
    """A target one token shorter than an anchor prompt of 77 ends on the anchor's EOS."""
    found = positions(make_recipe, "cat", "big cat", "{} " + "very " * 73, "tokens: all")
    assert found[-3:] == (75, 76, 76)


def test_shared_beginnings_are_merged(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(
        "version: 1\ntokens: prompt\n"
        "concepts: [{target: cat, anchor: dog, prompts: ['a {}', 'a {} asleep', 'the {}']}]"
    )
    aligned = align(recipe)
    # a cat EOS | a cat asleep EOS | the cat EOS, with BOS; "BOS", "BOS a" and "BOS a cat" shared
    deeper = aligned.solved.deeper_layers.record
    assert (deeper.columns, deeper.merged, deeper.conflicts) == (4 + 2 + 3, 2 + 1 + 1, ())
    # layer 1 can't tell "cat" at position 2 or EOS at position 3 from one another
    first = aligned.solved.first_layer.record
    assert (first.columns, first.merged) == (4 + 2 + 1, 2 + 1 + 1 + 2)


def test_columns_are_picked_where_they_are(make_recipe: MakeRecipe) -> None:
    """X and Y have the features of their prompts and positions, in the same order."""
    recipe = make_recipe(
        "version: 1\ntokens: prompt\n"
        "concepts: [{target: van gogh, anchor: artist, prompts: ['{}', 'by {}']}]\n"
        "retain: {weight: 0}"
    )
    aligned = align(recipe)
    assert aligned.solved.target_lengths == (4, 5)
    grid = Features(
        torch.arange(2 * 5)[:, None].float(), torch.arange(2 * 5).reshape(2, 5), lambda x: x
    )
    x = aligned.solved.deeper_layers.target.columns(grid)
    y = aligned.solved.deeper_layers.anchor.columns(grid)
    assert x.tolist() == [[0, 1, 2, 3, 6, 7, 8, 9]]
    assert y.tolist() == [[0, 1, 1, 2, 6, 7, 7, 8]]


def test_retained_features_are_distinct(make_recipe: MakeRecipe) -> None:
    """BOS and a shared beginning count once; EOS does for each prompt, padding never."""
    recipe = make_recipe(
        "version: 1\ntokens: prompt\nconcepts: [{target: cat, anchor: dog}]\n"
        "retain: {prompts: [a house, a horse, a cat, '']}"
    )
    aligned = align(recipe)
    assert aligned.record.retained == ("a house", "a horse", "")
    assert aligned.record.left_out == ("a cat",)
    index = aligned.retained.index
    places = zip(index.rows.tolist(), index.positions.tolist(), strict=True)
    assert list(places) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 1)]


def test_the_probe_pairs_by_word_up_to_eos(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(
        "version: 1\npairing: position\nconcepts: [{target: van gogh, anchor: artist}]\n"
        "probe: {prompts: ['by {} at night']}"
    )
    (pair,) = held_out_pairs(recipe.concepts[0], recipe)
    assert (pair.target, pair.anchor) == ("by van gogh at night", "by artist at night")
    assert pair.positions == (0, 1, 2, 2, 3, 4, 5)


def test_the_padding_of_the_first_prompt_stands_for_all(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(
        "version: 1\n"
        "concepts: [{target: van gogh, anchor: artist, prompts: ['{}', 'a {}', 'by {}']}]"
    )
    aligned = align(recipe)
    assert [len(pair.anchor_positions) for pair in aligned.record.prompts] == [77, 5, 5]
    assert aligned.solved.target_lengths == (77, 5, 5)
    for columns in (aligned.solved.first_layer, aligned.solved.deeper_layers):
        is_padding = columns.target.positions > 4  # EOS of the longest prompt is at 4
        assert is_padding.sum() == 77 - 5
        assert columns.scales[is_padding].square().unique().tolist() == pytest.approx([3])
        first = (columns.target.rows == 0) & (columns.target.positions <= 3)
        assert columns.scales[first].unique().tolist() == [1]


@pytest.mark.parametrize(("concepts", "pairs"), [(1, 6), (20, 120), (30, 120), (130, 130)])
def test_many_concepts_take_turns_with_the_calibration_templates(
    concepts: int, pairs: int, make_recipe: MakeRecipe
) -> None:
    targets = [f"q{number:03d}z" for number in range(concepts)]
    listed = "".join(f"  - {{target: {target}, anchor: artist}}\n" for target in targets)
    recipe = make_recipe(f"version: 1\nconcepts:\n{listed}")
    of_ids = {
        tokenize(template.format(target)).ids: (target, template)
        for target in targets
        for template in recipe.calibration.prompts
    }
    found = [of_ids[tuple(ids)] for ids in align(recipe).calibration.target_ids.tolist()]
    counts = Counter(target for target, _ in found)
    assert len(found) == pairs
    assert set(counts.values()) == {pairs // concepts}
    assert {template for _, template in found} == {*recipe.calibration.prompts}
