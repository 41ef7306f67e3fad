"""Words that mean nearly the same to a checkpoint: a word's neighbours in CLIP's vocabulary.

The U-Net reads words as keys and values alone.  Two words with similar keys and values therefore
have similar meanings to it, whatever a dictionary says.  With f the text feature of a word's last
token in "a WORD" and W the 32 key and value matrices stacked, words are compared by the cosine of
W(f − f̄), where f̄ is the mean over the vocabulary.  WᵀW = LLᵀ is d × d, so d numbers per word are
enough: Lᵀf.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from platformdirs import user_cache_path
from safetensors.torch import load_file, save
from torch import Tensor

from erasepro_convert.clip.text_encoder import Prefixes, TextEncoder
from erasepro_convert.clip.tokenizer import WORD_END, tokenize, vocabulary
from erasepro_convert.runtime.dtypes import packed
from erasepro_convert.sd1 import key_value_matrices
from erasepro_convert.sd1.keys import TEXT, TEXT_LAYERS
from erasepro_convert.sd1.sd1_checkpoint import SD1Checkpoint
from erasepro_convert.storage.atomic import replacing

BATCH = 2048
"""Words that are encoded together."""
CACHE_VERSION = 1
"""The version of the format of the cache."""

Progress = Callable[[int, int], None]
"""The callback gets the words done and the total."""


@dataclass(frozen=True)
class Neighbour:
    """A word, and the cosine of its centred keys and values with those of the given word."""

    word: str
    cosine: float


def suggest(source: SD1Checkpoint, word: str, count: int, progress: Progress) -> list[Neighbour]:
    """The ``count`` nearest whole words of CLIP's vocabulary, nearest first.

    ``progress`` is not called where the features of the vocabulary are cached.  Words that ``word``
    itself consists of are left out.

    Raises RecipeError for a word that does not fit into a prompt.
    """
    vocabulary_features = _vocabulary_features(source, progress)
    names, features = list(whole_words()), vocabulary_features["features"]
    mean = features.mean(0)
    tokens = tokenize(f"a {word}")
    feature = (
        _features(source, torch.tensor([tokens.ids[: tokens.count - 1]]))
        @ vocabulary_features["metric"]
    )
    cosines = torch.nn.functional.cosine_similarity(features - mean, feature - mean, dim=1)
    own = {name for name, ids in whole_words().items() if ids in tokens.ids}
    ranked = [i for i in cosines.argsort(descending=True).tolist() if names[i] not in own]
    return [Neighbour(names[i], float(cosines[i])) for i in ranked[:count]]


def whole_words() -> dict[str, int]:
    """The tokens that are whole words of at least three letters, by their text."""
    return {
        piece.removesuffix(WORD_END): number
        for piece, number in vocabulary()[0].items()
        if piece.endswith(WORD_END)
        and piece.isascii()
        and piece.removesuffix(WORD_END).isalpha()
        and len(piece.removesuffix(WORD_END)) > 2
    }


def _vocabulary_features(source: SD1Checkpoint, progress: Progress) -> dict[str, Tensor]:
    """``features`` (words × d) of the vocabulary and the ``metric`` L (d × d), cached on disk."""
    path = (
        user_cache_path("erasepro-convert") / f"words-{CACHE_VERSION}-{_digest(source)}.safetensors"
    )
    if path.exists():
        return load_file(path)
    metric = _metric(source)
    ids = torch.tensor(list(whole_words().values()))
    prefix = torch.tensor(tokenize("a").ids[:2])  # BOS, "a"
    prompts = torch.cat([prefix.expand(len(ids), 2), ids[:, None]], dim=1)
    parts = []
    for start in range(0, len(ids), BATCH):
        progress(start, len(ids))
        parts.append(_features(source, prompts[start : start + BATCH]) @ metric)
    found = {"features": torch.cat(parts), "metric": metric}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as (file,):
        file.write(save(found))
    progress(len(ids), len(ids))
    return found


def _features(source: SD1Checkpoint, ids: Tensor) -> Tensor:
    """The text features (B × d, float32) of the last token of each prompt, given ids (B × T)."""
    encoder = TextEncoder(source.read, torch.float32)
    with torch.inference_mode():
        prompts = Prefixes.from_token_ids(ids, [ids.shape[1]] * len(ids))
        hidden = encoder.embed(prompts)
        for number in range(1, TEXT_LAYERS + 1):
            hidden = encoder.layer(number)(hidden, prompts)
        return encoder.final_norm(hidden)[prompts.prefix_at[:, -1]]


def _metric(source: SD1Checkpoint) -> Tensor:
    """The factor L of WᵀW = LLᵀ, where W are all key and value matrices stacked."""
    total: Tensor | None = None
    for name in key_value_matrices():
        w = source.read(name).double()
        total = w.T @ w if total is None else total + w.T @ w
    assert total is not None
    # WᵀW can be singular, so a small multiple of the identity is added.
    ridge = 1e-12 * total.diagonal().mean() * torch.eye(len(total), dtype=total.dtype)
    lower: Tensor = torch.linalg.cholesky(total + ridge)
    return lower.float().contiguous()


def _digest(source: SD1Checkpoint) -> str:
    """The SHA-256 of all tensors that the features depend on."""
    text = sorted(name for name in source.layout.source if name.startswith(TEXT))
    digest = hashlib.sha256()
    for name in (*text, *key_value_matrices()):
        digest.update(packed(source.read(name)))
    return digest.hexdigest()
