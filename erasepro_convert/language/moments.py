"""What common language looks like to a text encoder: second moments of its features, by reader.

The features of thousands of phrases are the same for every checkpoint with that text encoder.  They
are computed once, in float32, and their moments are kept in the user's cache folder.

Tokens that share their embedding are not told apart: in a model that was trained on few words,
those that it does not know.  They are no part of its language.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from erasepro_convert.clip.digests import features_digest
from erasepro_convert.clip.fed_features import fed_features
from erasepro_convert.clip.text_encoder import Prefixes, ReadRows, ReadTensor, TextEncoder
from erasepro_convert.clip.tokenizer import Tokens, tokenize
from erasepro_convert.language.prompts import (
    ADJECTIVES,
    CONTEXTS,
    PHRASES,
    TEMPLATES,
    common_words,
    language_prompts,
)
from erasepro_convert.runtime.threads import one_thread
from erasepro_convert.sd1.keys import TEXT_LAYERS, TOKEN_EMBEDDING
from erasepro_convert.storage.cache import cached_tensors

CACHE_VERSION = 1
CHUNK = 4096
"""Phrases that pass through the encoder together."""

Progress = Callable[[int, int], None]
"""The callback gets the work done and the total, in phrases."""

Reader = int | str
"""Who reads features: the attention of a text layer by its number, or ``skip.2`` for the U-Net."""


@dataclass(frozen=True)
class Language:
    """Second moments of the features of P phrases, and the phrases themselves.

    ``phrases`` (P × T) are token ids, BOS to EOS and more EOS, of ``lengths`` (P) positions that
    count.  ``moments`` gives for each reader the mean of (f − c, 1)·(f − c, 1)ᵀ (d + 1 × d + 1,
    float32) over those positions, and ``centres`` gives c (d): what all features have in common
    would otherwise take the digits of what tells them apart.  ``words`` (W) are the tokens of
    common words, and ``word_features`` (W × d) what the U-Net reads of each one in "a WORD".
    """

    phrases: Tensor
    lengths: Tensor
    moments: Mapping[Reader, Tensor]
    centres: Mapping[Reader, Tensor]
    words: Tensor
    word_features: Tensor

    @cached_property
    def positions(self) -> int:
        """How many features a moment is the mean of."""
        return int(self.lengths.sum())

    def containing(self, words: Iterable[Sequence[int]]) -> Tensor:
        """Return the numbers of the phrases that contain any of some words, given their tokens."""
        found = torch.zeros(len(self.phrases), dtype=torch.bool)
        for word in words:
            if len(word) > self.phrases.shape[1]:
                continue  # no phrase has room for it
            windows = self.phrases.unfold(1, len(word), 1)
            found |= (windows == torch.tensor(word)).all(2).any(1)
        return found.nonzero()[:, 0]

    def without(self, reader: Reader, features: Tensor) -> Tensor:
        """Return the mean of (f, 1)·(f, 1)ᵀ (d + 1 × d + 1, float64) without features (d × n)."""
        centre = self.centres[reader].double()
        taken = with_constant(features - centre[:, None])
        rest = self.positions * self.moments[reader].double() - taken @ taken.T
        rest /= self.positions - features.shape[1]
        # From the moment of (g, 1) to that of (g + c, 1).
        shift = torch.outer(centre, rest[:-1, -1] + centre / 2)
        rest[:-1, :-1] += shift + shift.T
        rest[:-1, -1] += centre
        rest[-1, :-1] += centre
        return rest


def with_constant(features: Tensor) -> Tensor:
    """(f, 1) (d + 1 × n) of features f (d × n)."""
    return torch.cat([features, features.new_ones(1, features.shape[1])])


def read_language(
    read: ReadTensor,
    rows: ReadRows | None,
    skips: Collection[int],
    progress: Progress,
    encoder: str,
) -> Language:
    """Return what language looks like to a text encoder, from the cache if it is there.

    ``skips`` are the clip skips with which the U-Net reads.  ``rows`` reads rows of the token
    embedding; without it the whole tensor is read.  ``encoder`` is ``encoder_digest(read)``.
    """
    digest = _digest(encoder, _embeddings(read, rows, _tokens()), skips)
    stored = cached_tensors(
        f"language-{digest}",
        lambda: _compute(read, rows, skips, progress),
        wait=lambda: progress(0, 1),
    )
    readers: list[Reader] = [*range(1, TEXT_LAYERS + 1), *(f"skip.{skip}" for skip in skips)]
    return Language(
        phrases=stored["phrases"].long(),
        lengths=stored["lengths"].long(),
        moments={reader: stored[f"moment.{reader}"] for reader in readers},
        centres={reader: stored[f"centre.{reader}"] for reader in readers},
        words=stored["words"].long(),
        word_features=stored["word_features"],
    )


def _compute(
    read: ReadTensor, rows: ReadRows | None, skips: Collection[int], progress: Progress
) -> dict[str, Tensor]:
    with one_thread(), torch.inference_mode():
        known = _known(read, rows)
        tokens = [tokenize(prompt) for prompt in language_prompts(known)]
        lengths = torch.tensor([t.count for t in tokens])
        phrases = torch.tensor([t.ids for t in tokens])[:, : int(lengths.max())]
        words = {word: number for word, number in common_words().items() if known(word)}
        totals: dict[str, Tensor] = {}
        centres: dict[str, Tensor] = {}
        total = len(phrases) + len(words) // 3  # a word has fewer positions than a phrase
        progress(0, total)
        for start in range(0, len(phrases), CHUNK):
            chunk = slice(start, start + CHUNK)
            some = phrases[chunk]

            def report(layer: int, start: int = start, count: int = len(some)) -> None:
                progress(start + count * layer // TEXT_LAYERS, total)

            _add_moments(read, rows, some, lengths[chunk], skips, totals, centres, report)
        encoder = TextEncoder(read, torch.float32, rows)
        features = last_features(encoder, [tokenize(f"a {word}") for word in words], min(skips))
        progress(total, total)
        count = int(lengths.sum())
        return {
            "phrases": phrases.int(),
            "lengths": lengths.int(),
            **{f"moment.{reader}": (total / count).float() for reader, total in totals.items()},
            **{f"centre.{reader}": centre for reader, centre in centres.items()},
            "words": torch.tensor(list(words.values())).int(),
            "word_features": features,
        }


def _add_moments(
    read: ReadTensor,
    rows: ReadRows | None,
    phrases: Tensor,
    lengths: Tensor,
    skips: Collection[int],
    totals: dict[str, Tensor],
    centres: dict[str, Tensor],
    report: Callable[[int], None],
) -> None:
    """Add (f − c, 1)·(f − c, 1)ᵀ of some phrases to the totals by reader.

    ``report`` gets the number of each layer that is done.  c is the mean of the first phrases.  The
    product of a chunk is computed in float32, as features are, and added in float64.
    """
    encoder = TextEncoder(read, torch.float32, rows)
    prefixes = Prefixes.from_token_ids(phrases, lengths.tolist())
    counted = torch.arange(phrases.shape[1]) < lengths[:, None]
    weights = prefixes.prefix_at[counted].bincount(minlength=len(prefixes.ids)).float().sqrt()

    ones = weights.new_ones(len(weights), 1)

    def add(reader: str, features: Tensor) -> None:
        centre = centres.setdefault(reader, features.mean(0))
        weighted = torch.cat([features - centre, ones], dim=1) * weights[:, None]
        moment = (weighted.T @ weighted).double()
        totals[reader] = totals[reader] + moment if reader in totals else moment

    hidden = encoder.embed(prefixes)
    for number in range(1, TEXT_LAYERS + 1):
        layer = encoder.layer(number)
        add(str(number), layer.attention_input(hidden))
        hidden = layer(hidden, prefixes)
        if (skip := TEXT_LAYERS + 1 - number) in skips:
            add(f"skip.{skip}", encoder.final_norm(hidden))
        report(number)


def last_features(
    encoder: TextEncoder, prompts: Sequence[Tokens], skip: int, known: str | None = None
) -> Tensor:
    """Return what the U-Net reads (n × d) at the last word of prompts.

    ``skip`` is the clip skip with which it reads, ``known`` what ``fed_features`` asks for.
    """
    with one_thread(), torch.inference_mode():
        ends = [tokens.count - 1 for tokens in prompts]
        prefixes = Prefixes.from_token_ids(torch.tensor([t.ids for t in prompts]), ends)
        last = prefixes.prefix_at[torch.arange(len(prompts)), torch.tensor(ends) - 1]
        return fed_features(encoder, prefixes, [skip], known)[skip][last]


def _known(read: ReadTensor, rows: ReadRows | None) -> Callable[[str], bool]:
    """Return a test whether the encoder tells all tokens of a text from all other tokens."""
    tokens = _tokens()
    table = _embeddings(read, rows, tokens)
    _, group, sizes = table.unique(dim=0, return_inverse=True, return_counts=True)
    known = {token for token, g in zip(tokens, group.tolist(), strict=True) if sizes[g] == 1}
    return lambda text: known.issuperset(tokenize(text).words)


@cache
def _tokens() -> list[int]:
    """Return all tokens of words, adjectives and contexts."""
    others = {token for text in (*ADJECTIVES, *CONTEXTS) for token in tokenize(text).words}
    return sorted({*common_words().values(), *others})


def _embeddings(read: ReadTensor, rows: ReadRows | None, tokens: Sequence[int]) -> Tensor:
    numbers = torch.tensor(tokens)
    return rows(TOKEN_EMBEDDING, numbers) if rows else read(TOKEN_EMBEDDING)[numbers]


def _digest(encoder: str, embeddings: Tensor, skips: Collection[int]) -> str:
    """Return the digest of all that moments depend on."""
    texts = list(common_words()), TEMPLATES, ADJECTIVES, CONTEXTS, PHRASES
    return features_digest(encoder, embeddings, [CACHE_VERSION, *texts, sorted(skips)])
