"""``swap-te``: the erased model with the original's text encoder, and the other way round.

UIs can load a text encoder of their own, and pipelines may keep one.  The original's text encoder
undoes an erasure that was made in the text encoder alone.  The opposite swap shows how much of the
erasure is in the U-Net alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from erasepro_convert.attacks.case import NONSENSE, AttackCase, AttackContext, Distances, unchanged
from erasepro_convert.attacks.model import (
    Advance,
    LoadedModel,
    ModelVariant,
    PreparedPipeline,
    PromptSet,
)
from erasepro_convert.runtime.hashing import json_digest


def swap_cases(context: AttackContext) -> Iterator[AttackCase]:
    """Give a case for each of both swaps; there is no such attack on the original model."""
    ways = {
        "original text encoder": (context.original, context.erased),
        "original U-Net and VAE": (context.erased, context.original),
    }
    control = context.with_words(NONSENSE)
    for how, (text, image) in ways.items():
        variant = swap_text_encoder(text, image)
        near = partial(context.distances.of, texts=text.weights, unet=image.weights)
        yield AttackCase(
            attack="swap-te",
            how=how,
            attacked=(PromptSet(variant, context.rewritten(unchanged)),),
            original=(),
            control=(PromptSet(variant, context.rewritten(control)),),
            distances=Distances(near(unchanged), None, near(control)),
        )


def swap_text_encoder(text: LoadedModel, image: LoadedModel) -> ModelVariant:
    """Combine the text encoder of one model with the U-Net and the VAE of another."""

    @contextmanager
    def prepare(_: Advance) -> Iterator[PreparedPipeline]:
        pipeline = image.pipeline
        own, pipeline.text_encoder = pipeline.text_encoder, text.pipeline.text_encoder
        try:
            yield PreparedPipeline(pipeline)
        finally:
            pipeline.text_encoder = own

    return ModelVariant(json_digest(["swap-te", text.digest, image.digest]), prepare)
