"""``noise``: drawing starts from stronger noise than the model was trained on.

The samples take another way then, on which an erasure that holds for usual samples need not hold.
Lu et al., *When Are Concepts Erased From Diffusion Models?* (2025), have this idea, but add more
noise in each step of DDIM (η from 1 to 1.85).  Noise at the start alone works with any sampler.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from diffusers import StableDiffusionPipeline
from torch import Tensor

from erasepro_convert.attacks.case import NONSENSE, AttackCase, AttackContext, unchanged
from erasepro_convert.attacks.model import (
    Advance,
    LoadedModel,
    ModelVariant,
    PreparedPipeline,
    PromptSet,
)
from erasepro_convert.images.generate import SeededPrompt, from_noise
from erasepro_convert.runtime.hashing import json_digest

FACTORS = (1.15, 1.5, 1.85)
"""The noise at the start is multiplied by these: from a little to where pictures suffer."""


def noise_cases(context: AttackContext) -> Iterator[AttackCase]:
    """Give a case for each factor."""
    for factor in FACTORS:
        attacked = stronger_noise(context.erased, factor)
        yield AttackCase(
            attack="noise",
            how=f"noise × {factor}",
            attacked=(PromptSet(attacked, context.rewritten(unchanged)),),
            original=(
                PromptSet(stronger_noise(context.original, factor), context.rewritten(unchanged)),
            ),
            control=(PromptSet(attacked, context.rewritten(context.with_words(NONSENSE))),),
        )


def stronger_noise(model: LoadedModel, factor: float) -> ModelVariant:
    """Return a variant of a model whose noise at the start is multiplied by a factor."""

    def start(
        pipeline: StableDiffusionPipeline, prompts: Sequence[SeededPrompt], noise: Tensor
    ) -> Callable[..., Any]:
        return from_noise(pipeline, prompts, noise * factor)

    @contextmanager
    def prepare(_: Advance) -> Iterator[PreparedPipeline]:
        yield PreparedPipeline(model.pipeline, start=start)

    return ModelVariant(json_digest(["noise", model.digest, factor]), prepare)
