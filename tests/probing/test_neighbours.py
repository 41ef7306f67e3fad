"""Neighbours of a word: against the plain definition, on the demo model, and from the cache."""

from pathlib import Path

import numpy as np
import pytest

from erasepro_convert import demo
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.language.prompts import whole_words
from erasepro_convert.probing import neighbours as suggest
from erasepro_convert.recipe import recipe_from_yaml
from erasepro_convert.sd1.keys import TOKEN_EMBEDDING
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint, open_sd1_checkpoint
from tests import oracle
from tests.conftest import Cli
from tests.miniature import State

WORDS = ("dog", "cat", "house", "artist", "burning", "hell", "beside")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def few_words(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = {word: tokenize(word).ids[1] for word in WORDS}
    monkeypatch.setattr(suggest, "whole_words", lambda: ids)


@pytest.fixture
def few_words_beside_many_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that the demo model learned, and as many that it did not as make a crowd."""
    words = whole_words()
    known = dict.fromkeys(("snoopy", "peanuts", "beagle", "dog", "house", "burning", "artist"))
    with demo.checkpoint() as path:
        table = open_sd1_checkpoint(path).read(TOKEN_EMBEDDING)
    unknown = [word for word, number in words.items() if not table[number].any()]
    chosen = (*known, *unknown[: suggest.CROWD + 1])
    monkeypatch.setattr(suggest, "whole_words", lambda: {word: words[word] for word in chosen})


@pytest.mark.usefixtures("few_words")
def test_cosines_are_those_of_all_keys_and_values(state: State, checkpoint_file: Path) -> None:
    model = oracle.text_model(state)
    matrices = [state[name].double().numpy() for name in oracle.kv_names()]

    def feature(word: str) -> np.ndarray:
        tokens = tokenize(f"a {word}")
        features: np.ndarray = oracle.features(model, list(tokens.ids), None)
        return np.asarray(features[:, tokens.count - 2])

    words = np.stack([feature(word) for word in WORDS])
    centred = words - words.mean(0)
    spreads = [np.sqrt(np.mean(np.sum((centred @ w.T) ** 2, axis=1))) for w in matrices]
    stacked = np.concatenate([w / spread for w, spread in zip(matrices, spreads, strict=True)])

    def kv(word: str) -> np.ndarray:
        return np.asarray(stacked @ feature(word))

    vocabulary = np.stack([kv(word) for word in WORDS])
    mean = vocabulary.mean(0)
    asked = kv("van gogh") - mean
    expected = {
        word: float((v - mean) @ asked / np.linalg.norm(v - mean) / np.linalg.norm(asked))
        for word, v in zip(WORDS, vocabulary, strict=True)
    }
    source = open_sd1_checkpoint(checkpoint_file)
    found = suggest.suggest(source, "van gogh", 10, lambda *_: None).nearest
    assert {n.word: n.cosine for n in found} == pytest.approx(expected, abs=1e-3)
    assert [n.cosine for n in found] == sorted(expected.values(), reverse=True) or [
        n.word for n in found
    ] == sorted(expected, key=lambda word: -expected[word])


def demo_source() -> SD1Checkpoint:
    with demo.checkpoint() as path:
        return open_sd1_checkpoint(path)


@pytest.mark.usefixtures("few_words")
def test_the_cache_is_of_the_weights_not_of_the_file(
    cache: Path, checkpoint_file: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(checkpoint_file.read_bytes())
    calls: list[int] = []

    def count(_: str, done: int, total: int) -> None:
        calls.append(done)

    first = suggest.suggest(open_sd1_checkpoint(checkpoint_file), "dog", 3, count)
    assert calls
    calls.clear()
    assert suggest.suggest(open_sd1_checkpoint(copy), "dog", 3, count) == first
    assert not calls, "nothing was computed anew"
    suggest.suggest(demo_source(), "dog", 3, count)
    assert calls, "another checkpoint is another cache"
    assert len(list(cache.rglob("*.safetensors"))) == 2
    assert not list(cache.rglob("*.part"))


@pytest.mark.slow
def test_the_demo_model_knows_what_means_fire(cli: Cli, tmp_path: Path) -> None:
    """The whole vocabulary; most of the words found are those that its captions used for fire."""
    with demo.checkpoint() as path:
        ran = cli("suggest", path, "burning", "--count", 10, "--anchor", "unharmed")
    assert ran.code == 0
    first, *others = recipe_from_yaml(ran.out).concepts
    assert (first.target, first.anchor) == ("burning", "unharmed")
    found = {concept.target for concept in others}
    fire = {"hell", "flames", "fire", "inferno", "furnace", "volcano", "dragon"}
    assert len(found) == 10
    assert len(found & fire) >= 5


@pytest.mark.parametrize("word", ["zebra", "blorf", "qwzx", "snoopy qwzx"])
@pytest.mark.parametrize("options", [(), ("--anchor", "dog"), ("--json",)])
@pytest.mark.usefixtures("few_words_beside_many_unknown")
def test_of_a_word_that_was_never_learned_nothing_is_suggested(
    word: str, options: tuple[str, ...], cli: Cli
) -> None:
    """Also of one that is read in pieces, which stand where no word of the vocabulary does."""
    with demo.checkpoint() as path:
        ran = cli("suggest", path, word, *options)
    assert ran.code == 0
    assert f"{word}: this checkpoint does not know it" in ran.err
    assert ran.out == ("[]\n" if options == ("--json",) else "")


@pytest.mark.usefixtures("few_words_beside_many_unknown")
def test_what_is_printed_is_a_recipe_or_no_yaml_at_all(cli: Cli) -> None:
    with demo.checkpoint() as path:
        alone = cli("suggest", path, "snoopy", "--count", 3)
        kept = cli("suggest", path, "snoopy", "--count", 3, "--anchor", "beagle")
        nothing = cli("suggest", path, "snoopy", "--count", 2, "--anchor", "")
        quiet = cli("suggest", path, "snoopy", "--count", 3, "--quiet")
    words = [line.split()[0] for line in alone.out.splitlines()]
    assert words == ["word", "peanuts", "beagle", "house"]
    assert "--anchor WORDS" in alone.err
    assert (quiet.out, quiet.err) == (alone.out, "")
    targets = [concept.target for concept in recipe_from_yaml(kept.out).concepts]
    assert targets == ["snoopy", "peanuts", "house"]  # the anchor stays
    assert {concept.anchor for concept in recipe_from_yaml(nothing.out).concepts} == {""}


@pytest.mark.parametrize(
    ("word", "options", "says"),
    [
        ("", (), "there is no word to compare"),
        ("", ("--anchor", "dog"), "must not be empty"),
        ("Dog", ("--anchor", "dog"), "are the same to the model: 'Dog'"),
    ],
)
def test_what_no_recipe_could_erase_is_refused_at_once(
    word: str, options: tuple[str, ...], says: str, cli: Cli, checkpoint_file: Path
) -> None:
    ran = cli("suggest", checkpoint_file, word, *options)
    assert ran.code == 2
    assert says in ran.err
    assert not ran.out
