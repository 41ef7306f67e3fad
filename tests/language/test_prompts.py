"""The prompts that stand for common language."""

from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.language.prompts import (
    PHRASES,
    WORDS,
    common_words,
    language_prompts,
    whole_words,
)
from erasepro_convert.recipe.default_prompts import DRIFT_PROMPTS


def test_the_vocabulary_is_whole_words() -> None:
    words = whole_words()
    assert 25_000 < len(words) < 40_000
    assert {"dog", "nude", "monet"} <= words.keys()
    assert all(word.isascii() and word.isalpha() for word in words)
    assert all(tokenize(word).words == (words[word],) for word in ("dog", "nude", "monet"))


def test_common_words_come_first_and_none_that_drift_is_measured_on() -> None:
    words = common_words()
    assert len(words) == WORDS
    assert {"dog", "house", "red", "painting"} <= words.keys()
    measured = {word.strip(",") for prompt in DRIFT_PROMPTS for word in prompt.lower().split()}
    assert {"elephant", "turner", "purple"} <= measured
    assert not measured & words.keys()


def test_each_word_stands_in_a_template_and_phrases_are_many() -> None:
    prompts = language_prompts(lambda text: True)
    assert len(prompts) == len(set(prompts))
    assert WORDS + PHRASES < len(prompts) + 100 <= WORDS + PHRASES + 101
    said = set(" ".join(prompts).split())
    assert common_words().keys() <= said


def test_few_known_words_are_said_in_many_phrases() -> None:
    known = {"dog", "red", "blue", "at night", "in the snow", "cat"}
    prompts = language_prompts(known.__contains__)
    assert {"", "a red dog at night", "a blue cat in the snow"} <= set(prompts)
    assert len(prompts) < 20, "no phrase stands twice"
    templates = {"a", "photo", "of", "painting", "by", "in", "the", "background"}
    assert set(" ".join(prompts).split()) <= set(" ".join(known).split()) | templates
