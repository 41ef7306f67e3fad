"""CLIP's text side: ids and hidden states are those of transformers."""

import random
from pathlib import Path

import pytest
import torch

from erasepro_convert.clip.text_encoder import TextEncoder
from erasepro_convert.clip.tokenizer import BOS, EOS, decode, tokenize
from erasepro_convert.diffusers_folder import clip_tokenizer
from erasepro_convert.errors import RecipeError
from erasepro_convert.layout.keys import SD1, text_keys
from tests import oracle
from tests.miniature import State, weights

# fmt: off
PIECES = [
    "a photo of a cat", "Van Gogh", "R2D2", "snoopy", "painting", "don't", "we'll", "it's", "I'd",
    "they're", "I've", "I'm", "'s", "''", "café", "naïve", "cafe\u0301", "Ångström", "ÑANDÚ", "ß",
    "straße", "İstanbul", "ΣΊΣΥΦΟΣ", "Дали", "東京",
    "サルバドール", "한국어", "مرحبا", "😀", "👩‍🎨",
    "🏳️‍🌈", "3.14", "1,000", "2024", "x2", "½", "²", "&amp;", "<b>",
    "(word:1.4)", "[x]", "!!!", "...", "—",
    "#tag", "@me", "C++", "\t", "\n", "  ", "\u00a0", "\u200b", "_", "a_b", "CamelCase", "ALLCAPS",
    "zzzzzzzz", "antidisestablishmentarianism", "\u0000", "\ufffd", "ﬁ", "Ｆｕｌｌ", "e\u0308",
]
# fmt: on


def test_ids_are_those_of_transformers() -> None:
    """On four thousand strings: accents, emoji, contractions, numbers, odd spaces, too long."""
    theirs = clip_tokenizer()
    rng = random.Random(0)
    too_long = 0
    for _ in range(4000):
        pieces = rng.choices(PIECES, k=rng.randint(0, 24))
        text = "".join(piece + rng.choice(["", " ", " "]) for piece in pieces)
        expected = theirs(text)["input_ids"]
        if len(expected) > 77:
            too_long += 1
            with pytest.raises(RecipeError, match=f"{len(expected)} tokens"):
                tokenize(text)
            continue
        tokens = tokenize(text)
        assert list(tokens.ids[: tokens.count]) == expected, text
        assert set(tokens.ids[tokens.count :]) <= {EOS}
        assert len(tokens.ids) == 77
    assert 100 < too_long < 3000


def test_known_ids() -> None:
    """The ids that everyone knows, from OpenAI's own tokenizer."""
    ids = (BOS, 320, 1125, 539, 320, 2368, EOS)
    assert tokenize("a photo of a cat").ids[:7] == ids
    assert tokenize("A  Photo\nof a CAT ").ids[:7] == ids
    assert tokenize("").ids == (BOS, *[EOS] * 76)
    assert [decode(token) for token in ids[1:6]] == ["a", "photo", "of", "a", "cat"]


def test_exactly_77_tokens_fit() -> None:
    assert tokenize("cat " * 75).count == 77
    with pytest.raises(RecipeError, match="78 tokens"):
        tokenize("cat " * 76)


def test_control_tokens_are_refused() -> None:
    with pytest.raises(RecipeError, match="control tokens"):
        tokenize("a cat <|endoftext|> a dog")


@pytest.mark.parametrize(
    ("prompt", "concept", "words"),
    [
        ("a painting by Van Gogh at night", "Van Gogh", ["van", "gogh"]),
        ("a painting by Van Gogh", "Van Gogh", ["van", "gogh"]),
        ("Gogh", "Gogh", ["gogh"]),
        ("two snoopys", "snoopy", ["snoop", "ys"]),
        ("le café bleu", "café", ["cafÃ©"]),
    ],
)
def test_tokens_that_a_concept_became(prompt: str, concept: str, words: list[str]) -> None:
    """A token that only touches the concept counts; bytes beyond ASCII show as CLIP spells them."""
    tokens = tokenize(prompt)
    start = prompt.index(concept)
    first, last = tokens.covering(start, start + len(concept))
    assert [decode(token) for token in tokens.ids[first:last]] == words


def test_a_concept_that_is_nothing_to_clip_is_refused() -> None:
    with pytest.raises(RecipeError, match="does not read"):
        tokenize("a \u2003 cat").covering(2, 3)


@pytest.mark.parametrize("size", ["miniature", "full"])
def test_hidden_states_are_those_of_transformers(size: str, state: State) -> None:
    """Within 1e-5 in float32, after every layer and at the end."""
    if size == "full":
        state = weights(text_keys(SD1))
    prompts = ["", "a photo of a cat", "a painting by Van Gogh of a river at night, 4k, détail"]
    ids = torch.tensor([tokenize(prompt).ids for prompt in prompts])
    theirs = oracle.text_model(state, torch.float32)
    encoder = TextEncoder(state.__getitem__, torch.float32)
    with torch.no_grad():
        expected = theirs(ids, output_hidden_states=True)
        hidden = encoder.embed(ids)
        assert_close(hidden, expected.hidden_states[0])
        for number in range(1, 13):
            hidden = encoder.layer(number)(hidden)
            assert_close(hidden, expected.hidden_states[number])
        assert_close(encoder.final_norm(hidden), expected.last_hidden_state)


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert float((ours - theirs).abs().max()) < 1e-5


def test_later_positions_do_not_matter(state: State) -> None:
    """Causality: the first positions of a short run equal those of a padded one."""
    ids = torch.tensor([tokenize("a photo of a cat").ids])
    encoder = TextEncoder(state.__getitem__)
    long, short = encoder.embed(ids), encoder.embed(ids[:, :7])
    for number in range(1, 13):
        long, short = encoder.layer(number)(long), encoder.layer(number)(short)
    assert torch.allclose(long[:, :7], short, rtol=0, atol=1e-12)


def test_the_vocabulary_is_shipped_with_its_licence() -> None:
    folder = Path("erasepro_convert/clip")
    assert (folder / "bpe_simple_vocab_16e6.txt.gz").is_file()
    assert "Permission is hereby granted" in (folder / "VOCABULARY_LICENSE").read_text()
