"""A rare word whose embedding is replaced by vectors of one's own: what a trained word is."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import CLIPTextModel

from erasepro_convert.clip.tokenizer import tokenize

WORD = "sks"
"""A rare token: its own embedding is replaced, so its meaning does not matter."""


def copies(count: int) -> str:
    """Write WORD so many times, for as many embeddings."""
    return " ".join([WORD] * count)


def word_id() -> int:
    """Return WORD's token."""
    (token,) = tokenize(WORD).words
    return token


@contextmanager
def replacing_word_embedding(encoder: CLIPTextModel, embeddings: Tensor) -> Iterator[None]:
    """Give WORD other embeddings (k × d) while the block runs: its first k copies in a prompt."""
    word = word_id()

    def replace_word(_: object, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        is_word = inputs[0] == word
        number = (is_word.cumsum(1) - 1).clamp(0, len(embeddings) - 1)
        return torch.where(is_word[..., None], embeddings.to(output)[number], output)

    handle = encoder.get_input_embeddings().register_forward_hook(replace_word)
    try:
        yield
    finally:
        handle.remove()


def known_embeddings(encoder: CLIPTextModel) -> Tensor:
    """Return the embeddings (n × d, float32) of tokens that a model learnt; others are zero."""
    table: Tensor = encoder.get_input_embeddings().weight.detach().float()
    return table[table.any(dim=1)]
