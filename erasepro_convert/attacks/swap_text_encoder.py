"""``swap-te``: the one-click undo, which needs no gradients.

UIs load CLIP apart, and pipelines keep their own: an erasure that lives in the text encoder alone
is undone by the original's.  The other way round says how much of it lives in the U-Net alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from erasepro_convert.attacks.case import NONSENSE, Case, Trial
from erasepro_convert.attacks.model import Advance, Model, ModelVariant, PromptSet, Ready
from erasepro_convert.runtime.hashing import json_digest


def trials(case: Case) -> Iterator[Trial]:
    """Both ways; the original model has nothing to swap."""
    ways = {
        "original text encoder": swapped(case.original, case.erased),
        "original U-Net and VAE": swapped(case.erased, case.original),
    }
    for how, subject in ways.items():
        yield Trial(
            attack="swap-te",
            how=how,
            attacked=PromptSet(subject, case.plain()),
            original=None,
            control=PromptSet(subject, case.saying(NONSENSE)),
        )


def swapped(text: Model, image: Model) -> ModelVariant:
    """The text encoder of one model with the U-Net and the VAE of another."""

    @contextmanager
    def ready(_: Advance) -> Iterator[Ready]:
        pipeline = image.pipeline
        own, pipeline.text_encoder = pipeline.text_encoder, text.pipeline.text_encoder
        try:
            yield Ready(pipeline)
        finally:
            pipeline.text_encoder = own

    return ModelVariant(json_digest(["swap-te", text.digest, image.digest]), ready)
