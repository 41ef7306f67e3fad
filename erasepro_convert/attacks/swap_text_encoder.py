"""``swap-te``: the erased U-Net with another text encoder, and the erased text encoder alone.

UIs can load a text encoder of their own, and pipelines may keep one.  The original's text encoder
undoes an erasure that was made in the text encoder alone; those of other people were trained on,
and give the U-Net features that no erasure has seen.  The erased text encoder before the original's
U-Net shows how much of the erasure is in the U-Net alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from erasepro_convert.attacks.case import NONSENSE, AttackCase, AttackContext, Distances, unchanged
from erasepro_convert.attacks.model import (
    Advance,
    LoadedModel,
    ModelVariant,
    PreparedPipeline,
    PromptSet,
    PromptSets,
)
from erasepro_convert.attacks.target_distance import Rewrite
from erasepro_convert.runtime.hashing import json_digest


def swap_cases(context: AttackContext) -> Iterator[AttackCase]:
    """Give a case for each swap with the original, then one for each other text encoder.

    Only the others have a case of the original model: its U-Net with the same text encoder.
    """
    original, erased = context.original, context.erased
    yield _case(context, "original text encoder", original, erased)
    yield _case(context, "original U-Net and VAE", erased, original)
    for other in context.text_encoders:
        yield _case(context, f"text encoder of {other.path.name}", other, erased, original)


def _case(
    context: AttackContext,
    how: str,
    text: LoadedModel,
    image: LoadedModel,
    original: LoadedModel | None = None,
) -> AttackCase:
    """Return the case of a text encoder before a U-Net, and before that of the original."""
    control = context.with_words(NONSENSE)

    def given(unet: LoadedModel, rewrite: Rewrite) -> PromptSets:
        return (PromptSet(swap_text_encoder(text, unet), context.rewritten(rewrite)),)

    def distance(unet: LoadedModel, rewrite: Rewrite) -> float:
        return context.distances.of(rewrite, texts=text.weights, unet=unet.weights)

    return AttackCase(
        attack="swap-te",
        how=how,
        attacked=given(image, unchanged),
        original=given(original, unchanged) if original else (),
        control=given(image, control),
        distances=Distances(
            erased=distance(image, unchanged),
            original=distance(original, unchanged) if original else None,
            control=distance(image, control),
        ),
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
