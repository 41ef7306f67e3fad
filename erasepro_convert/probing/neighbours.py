"""Words that mean nearly the same to a checkpoint: a word's neighbours in CLIP's vocabulary.

The U-Net reads words as keys and values alone.  Two words with similar keys and values therefore
have similar meanings to it, whatever a dictionary says.  With f the text feature of a word's last
token in "a WORD", words are compared by the cosine of f − f̄, where f̄ is the mean over the
vocabulary, in the inner product of keys and values (``language.nearness.key_value_metric``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from erasepro_convert.clip.digests import encoder_digest, features_digest
from erasepro_convert.clip.text_encoder import TextEncoder
from erasepro_convert.clip.tokenizer import as_tokens, tokenize
from erasepro_convert.errors import RecipeError
from erasepro_convert.language.moments import last_features
from erasepro_convert.language.nearness import distances, key_value_metric, synonyms
from erasepro_convert.language.prompts import whole_words
from erasepro_convert.runtime.progress import Progress, silent
from erasepro_convert.sd1.keys import TOKEN_EMBEDDING
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint, open_sd1_checkpoint
from erasepro_convert.sd1.sd1_weights import SD1Weights
from erasepro_convert.storage.cache import cached_tensors
from erasepro_convert.storage.location import Location, locate

BATCH = 2048
"""Words that are encoded together."""
CACHE_VERSION = 2
"""The version of the format of the cache."""
SAME = 0.01
"""The share of the distance between two words, on average, below which words are not told apart."""
CROWD = 20
"""A token that is not told apart from so many others is unknown."""

MOST_SYNONYMS = 16
"""A target gets so many synonyms at most, the nearest ones."""

Count = Callable[[int, int], None]
"""The callback gets the words done and the total."""


@dataclass(frozen=True)
class Neighbour:
    """A word, and the cosine of its centred keys and values with those of the given word."""

    word: str
    cosine: float


@dataclass(frozen=True)
class Neighbours:
    """The nearest words of a word, nearest first.

    ``is_unknown`` says that the checkpoint reads a part of the word as it reads any that it does
    not know: it never learned the word, and what is nearest to it is so by chance.
    """

    nearest: tuple[Neighbour, ...]
    is_unknown: bool


def suggest(
    checkpoint: "SD1Checkpoint | Location | str",
    word: str,
    count: int = 12,
    progress: Progress = silent,
) -> Neighbours:
    """Return the ``count`` words of CLIP's vocabulary that are nearest to a word in a checkpoint.

    The checkpoint is an open one, a path, or the URL of an object in a store.  ``progress`` is told
    of the stage ``vocabulary``, unless the features of the vocabulary are cached.  Words that
    ``word`` itself consists of are left out.

    Raises RecipeError for a word that has nothing to read or does not fit into a prompt,
    CheckpointError for a file that is not a sound SD1.x checkpoint, StorageError when a store
    fails; OSError passes through.
    """
    if not tokenize(word).words:
        raise RecipeError("there is no word to compare with others")
    if isinstance(checkpoint, SD1Checkpoint):
        source = checkpoint
    else:
        source = open_sd1_checkpoint(locate(checkpoint))
    encoder = _encoder(source)
    features = _vocabulary_features(encoder, partial(progress, "vocabulary"))
    names = list(whole_words())
    metric, mean = key_value_metric(source.read, features), features.mean(0)
    tokens = tokenize(f"a {word}")
    (feature,) = last_features(encoder, [tokens], 1)
    centred, given = features - mean, feature - mean
    projected = given @ metric
    lengths = distances(features, mean, metric) * (given @ projected).sqrt()
    cosines = centred @ projected / lengths.clamp(min=torch.finfo(lengths.dtype).tiny)
    own = {name for name, number in whole_words().items() if number in tokens.ids}
    ranked = [i for i in cosines.argsort(descending=True).tolist() if names[i] not in own]
    return Neighbours(
        nearest=tuple(Neighbour(names[i], float(cosines[i])) for i in ranked[:count]),
        is_unknown=_is_unknown(word, encoder, features, metric),
    )


def _is_unknown(text: str, encoder: TextEncoder, features: Tensor, metric: Tensor) -> bool:
    """Whether the checkpoint reads a token of a text as it reads any that it never learned.

    No text with such a token can have been in a caption that the checkpoint was trained on.  Each
    token is read alone, behind "a" as the vocabulary's ``features`` (words × d) are: behind others
    it would stand where no word of the vocabulary does.
    """
    article, tokens = tokenize("a").words, dict.fromkeys(tokenize(text).words)
    typical = distances(features, features.mean(0), metric).square().mean().mul(2).sqrt()
    alone = last_features(encoder, [as_tokens((*article, token)) for token in tokens], 1)
    return any(
        int((distances(features, one, metric) < SAME * typical).sum()) > CROWD for one in alone
    )


def find_synonyms(
    source: SD1Weights, pairs: Sequence[tuple[str, str]], progress: Count
) -> dict[str, dict[str, float]]:
    """Return the words that mean the same to a checkpoint as each target, nearest first.

    ``pairs`` are targets and anchors.  Each word comes with its distance from the target, as a
    share of the anchor's: see ``language.nearness``.  Words that target or anchor consist of are
    left out, and a target that the checkpoint does not know has no synonyms.

    Raises RecipeError for a target or an anchor that does not fit into a prompt.
    """
    words, encoder = whole_words(), _encoder(source)
    features = _vocabulary_features(encoder, progress)
    metric = key_value_metric(source.read, features)
    found = {}
    for target, anchor in pairs:
        prompts = [tokenize(f"a {text}".strip()) for text in (target, anchor)]
        ends = last_features(encoder, prompts, 1)
        near = synonyms(list(words.values()), features, [(ends[0], ends[1])], metric)
        own = {*prompts[0].words, *prompts[1].words}
        shares = {word: near[n] for word, n in words.items() if n in near and n not in own}
        is_unknown = _is_unknown(target, encoder, features, metric)
        nearest = [] if is_unknown else sorted(shares, key=shares.__getitem__)[:MOST_SYNONYMS]
        found[target] = {word: shares[word] for word in nearest}
    return found


def _encoder(source: SD1Weights) -> TextEncoder:
    return TextEncoder(source.read, torch.float32, source.rows)


def _vocabulary_features(encoder: TextEncoder, progress: Count) -> Tensor:
    """Return the features (words × d) of the vocabulary, cached on disk."""
    words = list(whole_words())

    def compute() -> dict[str, Tensor]:
        parts = []
        for start in range(0, len(words), BATCH):
            progress(start, len(words))
            prompts = [tokenize(f"a {word}") for word in words[start : start + BATCH]]
            parts.append(last_features(encoder, prompts, 1))
        progress(len(words), len(words))
        return {"features": torch.cat(parts)}

    digest = features_digest(
        encoder_digest(encoder.read), encoder.read(TOKEN_EMBEDDING), [CACHE_VERSION, words]
    )
    return cached_tensors(f"words-{digest}", compute)["features"]
