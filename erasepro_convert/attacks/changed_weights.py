"""Models whose files were changed: what is done to their weights, for text features and pictures.

A change is one function of a tensor's name and value.  Tensors are changed one at a time, so that
no second copy of a model is held; afterwards the pipeline's weights are read from the checkpoint
again, which restores them to the last bit.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean

from torch import Tensor
from torch.nn import Parameter

from erasepro_convert.attacks.case import NONSENSE, AttackCase, AttackContext, Distances, unchanged
from erasepro_convert.attacks.model import (
    Advance,
    LoadedModel,
    ModelVariant,
    PreparedPipeline,
    PromptSets,
    prompt_sets,
)
from erasepro_convert.attacks.target_distance import Rewrite, Weights
from erasepro_convert.clip.text_encoder import ReadTensor
from erasepro_convert.images.pipeline import parameters_by_name
from erasepro_convert.sd1.keys import text_keys
from erasepro_convert.sd1.unet import unet_keys
from erasepro_convert.sd1.vae import vae_keys

Change = Callable[[str, Tensor], Tensor]
"""Returns the changed value (float32) of a tensor, given its original name and its value."""


@dataclass(frozen=True)
class ChangedModel:
    """A model with a change of its weights; ``digest`` covers both."""

    digest: str
    model: LoadedModel
    change: Change

    @property
    def weights(self) -> Weights:
        """The changed weights by original name."""
        return Weights(self.digest, self._read)

    @property
    def variant(self) -> ModelVariant:
        """The model whose pipeline has the changed weights while it draws."""

        @contextmanager
        def prepare(_: Advance) -> Iterator[PreparedPipeline]:
            with restoring_weights(self.model):
                set_weights(self.model, self._read)
                yield PreparedPipeline(self.model.pipeline)

        return ModelVariant(self.digest, prepare)

    def _read(self, name: str) -> Tensor:
        return self.change(name, self.model.checkpoint.read(name).float())


def parameters_of(model: LoadedModel) -> dict[str, Parameter]:
    """Return all parameters of a model's pipeline by original name."""
    pipeline, widths = model.pipeline, model.architecture.widths
    parts = (
        (pipeline.text_encoder, text_keys(widths)),
        (pipeline.unet, unet_keys(widths)),
        (pipeline.vae, vae_keys(widths)),
    )
    return {
        original: parameter
        for part, keys in parts
        for original, (_, parameter) in parameters_by_name(part, keys).items()
    }


def set_weights(model: LoadedModel, read: ReadTensor) -> None:
    """Give a model's pipeline other weights; the memory of those that it had is freed."""
    # The VAE is never trained, so it still has the pipeline's type.
    dtype, device = model.pipeline.vae.dtype, model.pipeline.vae.device
    for name, parameter in parameters_of(model).items():
        parameter.data = read(name).to(device, dtype).view(parameter.shape)


@contextmanager
def restoring_weights(model: LoadedModel) -> Iterator[None]:
    """Read the pipeline's weights from the checkpoint again, however the block ends."""
    try:
        yield
    finally:
        set_weights(model, model.checkpoint.read)


def changed_case(
    context: AttackContext,
    attack: str,
    how: str,
    erased: Sequence[ChangedModel],
    original: Sequence[ChangedModel],
) -> AttackCase:
    """Return the case of both models with their weights changed, once for each seed.

    Prompts stay as they are; the control has a made-up word in the target's place.  Distances are
    means over seeds.
    """
    control = context.with_words(NONSENSE)

    def given(models: Sequence[ChangedModel], rewrite: Rewrite) -> PromptSets:
        return prompt_sets((model.variant for model in models), context.rewritten(rewrite))

    def distance(models: Sequence[ChangedModel], rewrite: Rewrite) -> float:
        weights = [model.weights for model in models]
        return fmean(context.distances.of(rewrite, own, own) for own in weights)

    return AttackCase(
        attack,
        how,
        attacked=given(erased, unchanged),
        original=given(original, unchanged),
        control=given(erased, control),
        distances=Distances(
            erased=distance(erased, unchanged),
            original=distance(original, unchanged) if original else None,
            control=distance(erased, control),
        ),
    )
