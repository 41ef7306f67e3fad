"""``completion``: the original model draws the first steps, and the erased one ends the picture.

The first steps fix the composition.  The attack shows whether the erased model still knows what
belongs into a composition of the target: Lu et al., *When Are Concepts Erased From Diffusion
Models?* (2025).

In the control the original begins the same pictures of the target, and the erased model ends them
with a word that was never trained in the target's place.  What shows the target then was fixed by
the original.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from erasepro_convert.attacks.case import NONSENSE, AttackCase, AttackContext, unchanged
from erasepro_convert.attacks.model import (
    Advance,
    LoadedModel,
    ModelVariant,
    PreparedPipeline,
    PromptSet,
)
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.runtime.hashing import json_digest

SHARES = (0.2, 0.4)
"""The shares of the steps that the original draws.

Lu et al. have 5 and 10 of 50 steps.  The larger share is theirs in steps, not in time: at 25 steps,
10 of them give the attack more.
"""


def completion_cases(context: AttackContext) -> Iterator[AttackCase]:
    """Give a case for each share of the steps; the original model does not complete itself."""
    control = context.rewritten(context.with_words(NONSENSE))
    begun = {words: prompt for prompt, words in control.items()}
    for share in SHARES:
        completed, passed_through = (
            complete(context.original, context.erased, share, first_prompts)
            for first_prompts in ({}, begun)
        )
        yield AttackCase(
            attack="completion",
            how=f"first {share:.0%} by the original",
            attacked=(PromptSet(completed, context.rewritten(unchanged)),),
            original=(),
            control=(PromptSet(passed_through, control),),
        )


def complete(
    first: LoadedModel, last: LoadedModel, share: float, first_prompts: Mapping[str, str]
) -> ModelVariant:
    """Let one model draw a share of the steps, and another one the rest and decode it.

    Each uses its own text encoder.  ``first_prompts`` maps prompts to those that the first model
    is given instead.
    """
    # Pipelines give tokens to a text encoder, not the prompt.
    first_ids = {tokenize(k).ids: tokenize(v).ids for k, v in first_prompts.items()}

    @contextmanager
    def prepare(_: Advance) -> Iterator[PreparedPipeline]:
        pipeline = last.pipeline
        text, unet = pipeline.text_encoder, pipeline.unet
        first_text, last_text = first.pipeline.text_encoder.forward, text.forward
        first_unet, last_unet = first.pipeline.unet.forward, unet.forward
        first_times = pipeline.scheduler.config.num_train_timesteps * (1 - share)

        def encode(ids: Tensor, **options: Any) -> tuple[Tensor]:
            """Return the features of both text encoders side by side."""
            rows = [first_ids.get(tuple(row), row) for row in ids.tolist()]
            both = (
                first_text(torch.tensor(rows, device=ids.device), **options)[0],
                last_text(ids, **options)[0],
            )
            return (torch.cat(both, dim=-1),)

        # Batches are drawn in parallel by one U-Net, so that the time alone says whose turn it is.
        def denoise(
            latents: Tensor, time: Tensor, encoder_hidden_states: Tensor, **options: Any
        ) -> Any:
            features = encoder_hidden_states.chunk(2, dim=-1)
            if time >= first_times:
                return first_unet(latents, time, features[0].contiguous(), **options)
            return last_unet(latents, time, features[1].contiguous(), **options)

        with _replacing_forward(text, encode), _replacing_forward(unet, denoise):
            yield PreparedPipeline(pipeline)

    key = ["completion", first.digest, last.digest, share, sorted(first_prompts.items())]
    return ModelVariant(json_digest(key), prepare)


@contextmanager
def _replacing_forward(module: nn.Module, forward: Any) -> Iterator[None]:
    """Have a module compute something else while the block runs."""
    module.forward = forward
    try:
        yield
    finally:
        del module.forward  # the class has its own
