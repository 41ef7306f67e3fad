"""Prompt weights such as ``(word:1.4)``, as UIs read them.

The features of some tokens are multiplied by a weight, and then the mean over all features of the
prompt is restored: a weight shifts what a prompt is about without making all of it stronger.
A1111 does this, and other UIs follow it.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from erasepro_convert.attacks.model import Advance, LoadedModel, ModelVariant, PreparedPipeline
from erasepro_convert.clip.tokenizer import Tokens, tokenize
from erasepro_convert.runtime.hashing import json_digest

_WEIGHTED = re.compile(r"\(([^():]+):([0-9]+(?:\.[0-9]+)?)\)")


def weighted_variant(model: LoadedModel) -> ModelVariant:
    """Return a variant of a model that reads ``(word:1.4)`` as a weight, not as characters."""

    @contextmanager
    def prepare(_: Advance) -> Iterator[PreparedPipeline]:
        yield PreparedPipeline(model.pipeline, weighted_embedder(model.pipeline))

    return ModelVariant(json_digest(["weights", model.digest]), prepare)


def weighted_embedder(pipeline: StableDiffusionPipeline) -> Callable[[Sequence[str]], Tensor]:
    """Return a function that computes features (prompts × 77 × d) of weighted prompts."""
    encoder = pipeline.text_encoder

    def embed(prompts: Sequence[str]) -> Tensor:
        read = [parse_weights(prompt) for prompt in prompts]
        ids = torch.tensor([tokens.ids for tokens, _ in read], device=encoder.device)
        features: Tensor = encoder(ids).last_hidden_state
        return apply_weights(features, torch.tensor([weights for _, weights in read]))

    return embed


def apply_weights(features: Tensor, weights: Tensor) -> Tensor:
    """Multiply features (n × T × d) by weights (n × T), and keep the mean of each prompt."""
    stronger = features * weights.to(features)[..., None]
    mean: Tensor = features.mean((1, 2), keepdim=True) / stronger.mean((1, 2), keepdim=True)
    return stronger * mean


def parse_weights(prompt: str) -> tuple[Tokens, list[float]]:
    """Return a prompt's tokens without the weights, and the weight of each of 77 positions."""
    text, spans, end = "", [], 0
    for match in _WEIGHTED.finditer(prompt):
        text += prompt[end : match.start()]
        spans.append((len(text), len(text) + len(match[1]), float(match[2])))
        text, end = text + match[1], match.end()
    tokens = tokenize(text + prompt[end:])
    weights = [1.0] * len(tokens.ids)
    for start, stop, weight in spans:
        first, last = tokens.covering(start, stop)
        weights[first:last] = [weight] * (last - first)
    return tokens, weights
