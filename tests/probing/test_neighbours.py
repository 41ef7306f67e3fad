"""Neighbours of a word: against the plain definition, on the demo model, and from the cache."""

from pathlib import Path

import numpy as np
import pytest

from erasepro_convert import demo
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.probing import neighbours as suggest
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
    lines = ran.out.splitlines()
    assert lines[0] == "concepts:"
    assert lines[1] == '  - {target: "burning", anchor: "unharmed"}'
    found = {line.split('"')[1] for line in lines[2:]}
    fire = {"hell", "flames", "fire", "inferno", "furnace", "volcano", "dragon"}
    assert len(found) == 10
    assert len(found & fire) >= 5
