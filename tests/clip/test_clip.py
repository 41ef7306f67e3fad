"""CLIP's text side: ids and hidden states are those of transformers."""

import hashlib
import os
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, CLIPTokenizer, CLIPTokenizerFast

from erasepro_convert.clip.hf_tokenizer import clip_tokenizer, write_tokenizer
from erasepro_convert.clip.text_encoder import Prefixes, TextEncoder
from erasepro_convert.clip.tokenizer import decode, tokenize
from erasepro_convert.errors import RecipeError
from erasepro_convert.sd1.keys import BOS, EOS, SD1, text_keys
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


@pytest.mark.slow
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


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "blob"),
    [
        ("merges.txt", "76e821f1b6f0a9709293c3b6b51ed90980b3166b"),
        ("special_tokens_map.json", "2c2130b544c0c5a72d5d00da071ba130a9800fb2"),
        ("tokenizer_config.json", "5ba7bf706515bc60487ad0e1816b4929b82542d6"),
        ("vocab.json", "469be27c5c010538f845f518c4f5e8574c78f7c8"),
    ],
)
def test_the_tokenizers_files_are_those_of_sd15(
    name: str, blob: str, tokenizer_folder: Path
) -> None:
    """Byte for byte: git's digests of the files in the original model's folder."""
    data = (tokenizer_folder / name).read_bytes()
    assert hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == blob


@pytest.mark.parametrize("reader", [CLIPTokenizer, CLIPTokenizerFast, AutoTokenizer])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "without tokenizer.json"])
def test_each_class_reads_the_tokenizers_folder(
    reader: Any, whole: bool, tokenizer_folder: Path, tmp_path: Path
) -> None:
    """The slow class too, from vocabulary and merges; a prompt that is too long is cut at 77."""
    left = () if whole else ("tokenizer.json",)
    folder = shutil.copytree(tokenizer_folder, tmp_path / "tokenizer", ignore=lambda *_: left)
    theirs = reader.from_pretrained(folder, local_files_only=True)
    # Transformers 4's slow class drops control characters and joiners, sets each CJK character
    # apart and knows no final sigma, whichever folder it reads.
    own = ("ΣΊΣΥΦΟΣ", "東京", "👩‍🎨", "🏳️‍🌈", "\u0000", "\u200b", "\ufffd")
    rng = random.Random(1)
    pieces = [piece for piece in PIECES if piece not in own]
    texts = [*PIECES] if reader is not CLIPTokenizer else [*pieces]
    texts += [" ".join(rng.choices(pieces, k=rng.randint(0, 9))) for _ in range(200)]
    length = theirs.model_max_length
    found = theirs(texts, padding="max_length", truncation=True, max_length=length).input_ids
    assert length == 77
    for text, ids in zip(texts, found, strict=True):
        assert ids == list(tokenize(text).ids), text
    cut = theirs("cat " * 100, truncation=True, max_length=length).input_ids
    assert cut == [BOS, *[2368] * 75, EOS]


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


@pytest.mark.slow
@pytest.mark.parametrize("size", ["miniature", "full"])
def test_hidden_states_are_those_of_transformers(size: str, state: State) -> None:
    """Within 1e-5 in float32, after every layer and at the end."""
    if size == "full":
        state = weights(text_keys(SD1))
    texts = ["", "a photo of a cat", "a painting by Van Gogh of a river at night, 4k, détail"]
    ids = torch.tensor([tokenize(text).ids for text in texts])
    theirs = oracle.text_model(state, torch.float32)
    encoder = TextEncoder(state.__getitem__, torch.float32)
    with torch.no_grad():
        expected = theirs(ids, output_hidden_states=True)
        prompts = Prefixes.from_token_ids(ids, [77] * len(ids))
        hidden = encoder.embed(prompts)
        assert_close(hidden[prompts.prefix_at], expected.hidden_states[0])
        for number in range(1, 13):
            hidden = encoder.layer(number)(hidden, prompts)
            assert_close(hidden[prompts.prefix_at], expected.hidden_states[number])
        assert_close(encoder.final_norm(hidden)[prompts.prefix_at], expected.last_hidden_state)


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert float((ours - theirs).abs().max()) < 1e-5


def test_later_positions_do_not_matter(state: State) -> None:
    """Causality: the first positions of a short run equal those of a padded one."""
    ids = torch.tensor([tokenize("a photo of a cat").ids])
    encoder = TextEncoder(state.__getitem__)
    runs = [
        Prefixes.from_token_ids(ids, [77]),
        Prefixes.from_token_ids(ids, [7]),
        Prefixes.from_token_ids(ids[:, :7], [7]),
    ]
    hidden = [encoder.embed(run) for run in runs]
    for number in range(1, 13):
        layer = encoder.layer(number)
        hidden = [layer(part, run) for part, run in zip(hidden, runs, strict=True)]
    long, cut, short = (part[run.prefix_at][:, :7] for run, part in zip(runs, hidden, strict=True))
    assert torch.allclose(long, cut, rtol=0, atol=1e-12)
    assert torch.allclose(long, short, rtol=0, atol=1e-12)


def test_prompts_that_begin_alike_share_their_beginnings(state: State) -> None:
    """Each distinct beginning once, and the same features as each prompt by itself."""
    texts = ["a photo of a cat", "a photo of a dog", "a photo", "a photo of a cat"]
    tokens = [tokenize(text) for text in texts]
    ids = torch.tensor([t.ids[:8] for t in tokens])
    lengths = [t.count for t in tokens]
    together = Prefixes.from_token_ids(ids, lengths)
    beginnings = {t.ids[: i + 1] for t in tokens for i in range(t.count)}
    assert len(together.ids) == len(beginnings) == 7 + 2 + 1
    encoder = TextEncoder(state.__getitem__)
    alone = [
        Prefixes.from_token_ids(row[None], [length])
        for row, length in zip(ids, lengths, strict=True)
    ]
    runs = [together, *alone]
    hidden = [encoder.embed(run) for run in runs]
    for number in range(1, 13):
        layer = encoder.layer(number)
        hidden = [layer(part, run) for part, run in zip(hidden, runs, strict=True)]
    joint, *single = (part[run.prefix_at] for run, part in zip(runs, hidden, strict=True))
    for row, length in enumerate(lengths):
        assert torch.allclose(joint[row, :length], single[row][0, :length], rtol=0, atol=1e-12)


def test_many_prompts_are_computed_block_by_block(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits on any number of cores, and what each prompt by itself gives."""
    words = ["cat", "dog", "house", "tree", "river", "a red kite", "the old sea"]
    texts = [
        f"{start} {word}" for start in ("a", "photo of", "some", "my", "two") for word in words
    ]
    tokens = [tokenize(text) for text in texts]
    ids, lengths = torch.tensor([t.ids[:8] for t in tokens]), [t.count for t in tokens]
    encoder = TextEncoder(state.__getitem__)
    prompts = Prefixes.from_token_ids(ids, lengths)
    assert len(prompts.blocks) == 2
    layer = encoder.layer(1)

    def features() -> torch.Tensor:
        return layer(layer(encoder.embed(prompts), prompts), prompts)

    threads = []
    for cores in (1, 2, 3):
        monkeypatch.setattr(os, "cpu_count", lambda n=cores: n)
        threads.append(features())
    assert all(torch.equal(threads[0], other) for other in threads)
    for row, length in enumerate(lengths):
        alone = Prefixes.from_token_ids(ids[row : row + 1], [length])
        hidden = layer(layer(encoder.embed(alone), alone), alone)
        together = threads[0][prompts.prefix_at[row, :length]]
        assert torch.allclose(together, hidden[alone.prefix_at[0, :length]], rtol=0, atol=1e-12)


def test_large_states_lie_in_files_and_are_the_same(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = Prefixes.from_token_ids(torch.tensor([tokenize("a photo of a cat").ids]), [7])
    encoder = TextEncoder(state.__getitem__)

    def features() -> torch.Tensor:
        return encoder.layer(1)(encoder.embed(prompts), prompts)

    in_memory = features()
    monkeypatch.setattr("erasepro_convert.runtime.scratch.FILE_THRESHOLD", 0)
    in_file = features()
    assert torch.equal(in_file, in_memory)
    with open("/proc/self/maps", encoding="utf-8") as maps:
        assert any("erasepro-" in line and "(deleted)" in line for line in maps)


def test_the_vocabulary_is_shipped_with_its_licence() -> None:
    folder = Path("erasepro_convert/clip")
    assert (folder / "bpe_simple_vocab_16e6.txt.gz").is_file()
    assert "Permission is hereby granted" in (folder / "VOCABULARY_LICENSE").read_text()


def test_threads_can_share_the_tokenizer() -> None:
    """Each call sets padding and truncation anew."""
    tokenizer = clip_tokenizer()

    def count(number: int) -> int:
        assert tokenizer.tokenize("a cat") == ["a</w>", "cat</w>"]
        padding = "max_length" if number % 2 else "longest"
        read = tokenizer(["a cat"], padding=padding, max_length=77, truncation=True)
        return len(read.input_ids[0])

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(count, range(200))) == [4, 77] * 100
