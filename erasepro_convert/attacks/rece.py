"""``rece``: the features that RECE derives, with which an erased U-Net is told of the target.

Gong et al., *Reliable and Efficient Concept Erasure of Text-to-Image Diffusion Models* (ECCV 2024),
Eq. 7.  With W_o and W the original's and the erased keys and values, and c what the original's text
encoder makes of the target,

    c′ = (λI + ΣWᵀW)⁻¹ (ΣWᵀW_o) c,  λ = 0.1,

comes nearest to what the original U-Net was told.  RECE erases c′ next; here it is an attack.  No
prompt has these features: whoever feeds them has changed the program, not the prompt.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from erasepro_convert.attacks.case import (
    NONSENSE,
    AttackCase,
    AttackContext,
    Distances,
    unchanged,
)
from erasepro_convert.attacks.model import (
    Advance,
    LoadedModel,
    ModelVariant,
    PreparedPipeline,
    PromptSet,
)
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.runtime.hashing import json_digest
from erasepro_convert.sd1 import key_value_matrices

LAMBDA = 0.1


def rece_cases(context: AttackContext) -> Iterator[AttackCase]:
    """Give the case of both models with features derived for their own U-Nets."""
    nonsense = context.with_words(NONSENSE)
    own = context.distances
    attacked, original = (_Derived(context.original, m) for m in (context.erased, context.original))
    features = own.goal.target, own.aimed_at(NONSENSE).goal.target
    near, control = (
        own.form(context.erased.weights, context.erased.weights).distance(f @ attacked.matrix.T)
        for f in features
    )
    before = own.form(context.original.weights, context.original.weights)
    yield AttackCase(
        "rece",
        "derived features",
        attacked=(PromptSet(attacked.variant, context.rewritten(unchanged)),),
        original=(PromptSet(original.variant, context.rewritten(unchanged)),),
        control=(PromptSet(attacked.variant, context.rewritten(nonsense)),),
        distances=Distances(near, before.distance(features[0] @ original.matrix.T), control),
    )


@dataclass(frozen=True)
class _Derived:
    """A model whose U-Net is given derived features in place of its own text encoder's."""

    original: LoadedModel
    model: LoadedModel

    @cached_property
    def matrix(self) -> Tensor:
        """The matrix (d × d) that derives c′ from c."""
        width = self.model.architecture.widths.text
        metric = LAMBDA * torch.eye(width, dtype=torch.float64)
        cross = torch.zeros_like(metric)
        for name in key_value_matrices():
            before, after = (m.checkpoint.read(name).double() for m in (self.original, self.model))
            metric += after.T @ after
            cross += after.T @ before
        derived: Tensor = torch.linalg.solve(metric, cross).float()
        return derived

    @cached_property
    def variant(self) -> ModelVariant:
        """The model with features derived from those of the original's text encoder.

        BOS stays as it is: it is the same in every prompt.
        """

        @contextmanager
        def prepare(_: Advance) -> Iterator[PreparedPipeline]:
            pipeline, encoder = self.model.pipeline, self.original.text_encoder

            def embed(prompts: Sequence[str]) -> Tensor:
                ids = torch.tensor([tokenize(prompt).ids for prompt in prompts])
                features: Tensor = encoder(ids.to(encoder.device)).last_hidden_state
                derived = features @ self.matrix.to(features).T
                derived[:, 0] = features[:, 0]
                return derived.to(pipeline.unet.dtype)

            yield PreparedPipeline(pipeline, embed)

        return ModelVariant(json_digest(["rece", self.model.digest, self.original.digest]), prepare)
