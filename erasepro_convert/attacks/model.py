"""The models of a stress test, as they are and with something done to them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor
from transformers import CLIPTextModel

from erasepro_convert.attacks.target_distance import Weights
from erasepro_convert.images.generate import Start, from_noise
from erasepro_convert.images.open_model import OpenModel
from erasepro_convert.images.pipeline import build_text_encoder
from erasepro_convert.runtime.threads import one_thread
from erasepro_convert.sd1.keys import TEXT

Advance = Callable[[int], None]
"""Gets the amount of work done since its last call, in denoising steps of one picture."""


@dataclass(frozen=True)
class PreparedPipeline:
    """A pipeline that is ready to draw.

    ``embed`` computes the text features of prompts where the pipeline should not do it.  ``start``
    says what drawings start from.
    """

    pipeline: StableDiffusionPipeline
    embed: Callable[[Sequence[str]], Tensor] | None = None
    start: Start = from_noise


@dataclass(frozen=True)
class ModelVariant:
    """A model, either as it is or with something done to it before it draws.

    ``digest`` covers everything that its pictures depend on, apart from prompt, seed and settings.
    ``prepare`` changes the pipeline as long as its block lasts.  ``setup_steps`` is how much work
    that is, in denoising steps.  ``step_share`` is the share of a sampler's steps that a drawing
    takes.
    """

    digest: str
    prepare: Callable[[Advance], AbstractContextManager[PreparedPipeline]]
    setup_steps: int = 0
    step_share: float = 1.0


@dataclass(frozen=True)
class PromptSet:
    """Prompts for a model variant; ``prompts`` maps original prompts to what it is given."""

    variant: ModelVariant
    prompts: Mapping[str, str]


PromptSets = tuple[PromptSet, ...]


def prompt_sets(variants: Iterable[ModelVariant], prompts: Mapping[str, str]) -> PromptSets:
    """Give the same prompts to several variants, such as one for each training seed."""
    return tuple(PromptSet(variant, prompts) for variant in variants)


class LoadedModel(OpenModel):
    """An open checkpoint that keeps its pipeline once it is loaded, since many attacks use it."""

    @cached_property
    def pipeline(self) -> StableDiffusionPipeline:
        """The pipeline, loaded when it is first needed."""
        return self.load_pipeline()

    def threads(self) -> AbstractContextManager[None]:
        """Compute a small model in one thread while the block runs.

        Threads that share the sums of a small model mostly wait for each other.
        """
        return one_thread() if self.architecture.batch > 1 else nullcontext()

    @cached_property
    def text_encoder(self) -> CLIPTextModel:
        """The text encoder alone, in float32, for what needs gradients of it but no pictures."""
        encoder = build_text_encoder(self.checkpoint, self.architecture, torch.float32)
        return encoder.requires_grad_(False)

    @cached_property
    def weights(self) -> Weights:
        """The weights by original name; those of the text encoder stay in memory, in float32."""

        @cache
        def read_text(name: str) -> Tensor:
            return self.checkpoint.read(name).float()

        def read(name: str) -> Tensor:
            return read_text(name) if name.startswith(TEXT) else self.checkpoint.read(name)

        return Weights(self.digest, read, self.checkpoint.rows)

    @cached_property
    def variant(self) -> ModelVariant:
        """The model as it is; its pictures are those of an evaluation."""

        @contextmanager
        def prepare(_: Advance) -> Iterator[PreparedPipeline]:
            yield PreparedPipeline(self.pipeline)

        return ModelVariant(self.digest, prepare)
