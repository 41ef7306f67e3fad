"""``(word:1.4)`` as UIs read it: the features of some tokens times a weight, the mean restored.

That is what A1111 does and others took from it.  The mean is over all features of a prompt, so that
a weight shifts what a prompt is about without making all of it stronger.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from erasepro_convert.attacks.model import Advance, Model, ModelVariant, Ready
from erasepro_convert.clip.tokenizer import Tokens, tokenize
from erasepro_convert.runtime.hashing import json_digest

_WEIGHTED = re.compile(r"\(([^():]+):([0-9]+(?:\.[0-9]+)?)\)")


def weighted(model: Model) -> ModelVariant:
    """A model whose prompts' weights are weights, not characters."""

    @contextmanager
    def ready(_: Advance) -> Iterator[Ready]:
        yield Ready(model.pipeline, embedder(model.pipeline))

    return ModelVariant(json_digest(["weights", model.digest]), ready)


def embedder(pipeline: StableDiffusionPipeline) -> Callable[[Sequence[str]], Tensor]:
    """Makes features (prompts × 77 × d) of weighted prompts."""
    encoder = pipeline.text_encoder

    def embed(prompts: Sequence[str]) -> Tensor:
        read = [parse(prompt) for prompt in prompts]
        ids = torch.tensor([tokens.ids for tokens, _ in read], device=encoder.device)
        features: Tensor = encoder(ids).last_hidden_state
        return applied(features, torch.tensor([weights for _, weights in read]))

    return embed


def applied(features: Tensor, weights: Tensor) -> Tensor:
    """Features (n × T × d), each times its weight (n × T), with the mean of each prompt kept."""
    stronger = features * weights.to(features)[..., None]
    mean: Tensor = features.mean((1, 2), keepdim=True) / stronger.mean((1, 2), keepdim=True)
    return stronger * mean


def parse(prompt: str) -> tuple[Tokens, list[float]]:
    """The tokens of a prompt without its weights' signs, and the weight of each of 77 positions."""
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
