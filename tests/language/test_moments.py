"""Moments of language against plain float64 features, and their place in the cache."""

from collections.abc import Collection
from pathlib import Path

import pytest
import torch
from torch import Tensor

from erasepro_convert.clip.digests import encoder_digest
from erasepro_convert.clip.text_encoder import Features, Prefixes, TextEncoder
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.language import moments
from erasepro_convert.language.moments import Language, Reader, last_features, read_language
from erasepro_convert.sd1.keys import TEXT_LAYERS, TOKEN_EMBEDDING
from tests.miniature import State

PHRASES = ["", "a dog", "a red dog at night", "a painting by a dog", "two cats", "a house"]


@pytest.fixture(autouse=True)
def few_phrases(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(moments, "language_prompts", lambda known: PHRASES)
    monkeypatch.setattr(moments, "common_words", lambda: {"dog": 1929, "house": 1212})
    monkeypatch.setattr(moments, "CHUNK", 4)  # the last chunk is shorter
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def read(state: State, skips: Collection[int] = (1, 2)) -> Language:
    read = state.__getitem__
    return read_language(read, None, skips, lambda done, total: None, encoder_digest(read))


def features_of(state: State, prompts: list[str], reader: Reader) -> Tensor:
    """What a reader reads at all positions of prompts, BOS to EOS (d × n, float64)."""
    tokens = [tokenize(prompt) for prompt in prompts]
    ids, counts = torch.tensor([t.ids for t in tokens]), [t.count for t in tokens]
    prefixes, encoder = Prefixes.from_token_ids(ids, counts), TextEncoder(state.__getitem__)
    hidden = encoder.embed(prefixes)
    stop = reader - 1 if isinstance(reader, int) else TEXT_LAYERS + 1 - int(reader[-1])
    for number in range(1, stop + 1):
        hidden = encoder.layer(number)(hidden, prefixes)
    is_layer = isinstance(reader, int)
    norm = encoder.layer(stop + 1).attention_input if is_layer else encoder.final_norm
    rows, places = zip(*((r, i) for r, n in enumerate(counts) for i in range(n)), strict=True)
    found = Features(hidden, prefixes.prefix_at, norm)
    return found.at(torch.tensor(rows), torch.tensor(places)).T


def plain_moment(features: Tensor) -> Tensor:
    with_one = torch.cat([features, features.new_ones(1, features.shape[1])])
    return with_one @ with_one.T / features.shape[1]


@pytest.mark.parametrize("reader", [1, 7, "skip.1", "skip.2"])
def test_moments_are_those_of_all_positions(reader: Reader, state: State) -> None:
    nothing = torch.empty(state[TOKEN_EMBEDDING].shape[1], 0, dtype=torch.float64)
    found = read(state).without(reader, nothing)
    expected = plain_moment(features_of(state, PHRASES, reader))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_phrases_are_taken_away_as_if_they_had_never_been_there(state: State) -> None:
    language = read(state)
    dogs = language.containing([tokenize("dog").words])
    assert [PHRASES[i] for i in dogs] == ["a dog", "a red dog at night", "a painting by a dog"]
    assert not len(language.containing([tokenize("a dog " * 20).words]))  # longer than any phrase
    phrase = language.containing([tokenize("red dog").words])
    assert [PHRASES[i] for i in phrase] == ["a red dog at night"]
    said = [PHRASES[i] for i in dogs]
    rest = [phrase for phrase in PHRASES if phrase not in said]
    found = language.without("skip.1", features_of(state, said, "skip.1"))
    expected = plain_moment(features_of(state, rest, "skip.1"))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_what_all_features_have_in_common_costs_no_digits(state: State) -> None:
    """A final layer norm whose bias is a thousand times what words differ by."""
    name = "cond_stage_model.transformer.text_model.final_layer_norm.bias"
    offset = {**state, name: state[name] + 1000.0}
    width = len(state[name])
    nothing = torch.empty(width, 0, dtype=torch.float64)
    covariances = []
    for checkpoint in (state, offset):
        moment = read(checkpoint).without("skip.1", nothing)
        covariances.append(moment[:-1, :-1] - torch.outer(moment[:-1, -1], moment[-1, :-1]))
    # 1000 in float32 leaves 6e-5 of a feature itself
    torch.testing.assert_close(covariances[1], covariances[0], rtol=1e-3, atol=1e-3)


def test_words_are_read_at_their_last_token(state: State) -> None:
    (dog, _) = read(state).word_features
    expected = features_of(state, ["a dog"], "skip.1")[:, 2]  # BOS a dog EOS
    torch.testing.assert_close(dog, expected.float(), rtol=1e-4, atol=1e-5)
    encoder = TextEncoder(state.__getitem__, torch.float32)
    for known in (None, "a digest", "a digest"):  # computed, kept, and taken from the cache
        (alone,) = last_features(encoder, [tokenize("a dog")], 1, known)
        torch.testing.assert_close(dog, alone, rtol=1e-5, atol=1e-6)


def test_the_second_reading_is_the_first(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(state)
    monkeypatch.setattr(moments, "_compute", lambda *_: pytest.fail("it is in the cache"))
    second = read(state)
    for name in ("phrases", "lengths", "words", "word_features"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    for reader, moment in first.moments.items():
        assert torch.equal(moment, second.moments[reader]), reader


class ComputedError(Exception):
    """Raised in place of computing."""


def compute(*_: object) -> None:
    raise ComputedError


@pytest.mark.parametrize("what", ["weights", "clip skip", "phrases"])
def test_other_weights_phrases_or_clip_skips_are_computed(
    what: str, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(state)
    monkeypatch.setattr(moments, "_compute", compute)
    if what == "phrases":
        monkeypatch.setattr(moments, "common_words", lambda: {"dog": 1929, "cat": 2368})
    name = "cond_stage_model.transformer.text_model.encoder.layers.3.mlp.fc1.weight"
    changed = {**state, name: state[name] * 1.01} if what == "weights" else state
    with pytest.raises(ComputedError):
        read(changed, (1,) if what == "clip skip" else (1, 2))
