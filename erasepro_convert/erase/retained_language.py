"""The common language that a recipe retains: all of it but what means the same as a target."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from erasepro_convert.clip.text_encoder import TextEncoder
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.erase.columns import OtherPrompts, TokenIndex
from erasepro_convert.errors import LimitError
from erasepro_convert.language.moments import Language, Reader, last_features
from erasepro_convert.language.nearness import key_value_metric, synonyms
from erasepro_convert.recipe import Concept
from erasepro_convert.runtime.threads import one_thread

IN_PHRASE = "a {}"
"""Where targets, anchors and other words are compared."""


@dataclass(frozen=True)
class RetainedLanguage:
    """Language without the phrases that say a target.

    ``left_out`` are the phrases that contain a target or a word that means the same to the
    checkpoint; they pass through the encoder so that their features can be taken away.
    """

    language: Language
    left_out: OtherPrompts

    def moment(self, reader: Reader, left_out: Tensor) -> Tensor:
        """The moment (d + 1 × d + 1) of what a reader reads, without ``left_out`` (d × n)."""
        return self.language.without(reader, left_out)


@one_thread()
@torch.inference_mode()
def retained_language(
    language: Language,
    concepts: Sequence[Concept],
    encoder: TextEncoder,
    skip: int,
    known: str | None,
) -> RetainedLanguage:
    """Leave out of a language what says a concept's target.

    ``encoder`` reads the original weights, ``skip`` is the clip skip with which words are compared,
    ``known`` what ``fed_features`` asks for.

    Raises LimitError where no phrase is left.
    """
    targets, anchors = zip(*(c.prompt_pairs((IN_PHRASE,))[0] for c in concepts), strict=True)
    phrases = [tokenize(prompt) for prompt in (*targets, *anchors)]
    features = last_features(encoder, phrases, skip, known)
    metric = key_value_metric(encoder.read, language.word_features)
    pairs = list(zip(features[: len(targets)], features[len(targets) :], strict=True))
    like = synonyms(language.words.tolist(), language.word_features, pairs, metric)
    own = [tokenize(c.target).words for c in concepts]
    rows = language.containing([*own, *((word,) for word in like)])
    if len(rows) == len(language.phrases):
        raise LimitError(
            "this model tells no common word from the targets, so that nothing of its language "
            "could be retained"
        )
    lengths = language.lengths[rows]
    counted = torch.arange(language.phrases.shape[1]) < lengths[:, None]
    row_of, positions = counted.nonzero().T
    ids = language.phrases[rows]
    return RetainedLanguage(
        language, OtherPrompts(ids, tuple(lengths.tolist()), TokenIndex(row_of, positions))
    )
