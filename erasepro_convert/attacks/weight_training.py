"""Training of a U-Net's weights on pictures, as people fine-tune models.

Learning rates are those that people use for SD1.x.  A narrower U-Net takes a higher one, in inverse
proportion to its width, at which Adam changes what a layer computes at the same pace: Yang et al.,
*Tensor Programs V* (2022).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from erasepro_convert.attacks.changed_weights import restoring_weights
from erasepro_convert.attacks.denoising import draw_batch, work_per_step
from erasepro_convert.attacks.model import (
    Advance,
    LoadedModel,
    ModelVariant,
    PreparedPipeline,
)
from erasepro_convert.sd1.keys import SD1
from erasepro_convert.train.loop import take_step
from erasepro_convert.train.methods import TrainingBatch, generator_of
from erasepro_convert.train.network import Network

BATCH = 4
"""Pictures in a training step: people use 1 to 4."""

WORK_PER_STEP = work_per_step(BATCH)
"""The work of one training step, in denoising steps of one picture."""


@dataclass(frozen=True)
class TrainingSet:
    """Latents (n × 4 × s × s), and for each the prompts that take turns; all have as many."""

    latents: Tensor
    prompts: Sequence[Sequence[str]]


def trained_variant(
    model: LoadedModel, digest: str, train: Callable[[Advance], None], setup_steps: int
) -> ModelVariant:
    """Return a variant that draws with what ``train`` makes of the pipeline's weights.

    They are trained each time that they are needed, since nothing keeps them afterwards.
    """

    @contextmanager
    def prepare(advance: Advance) -> Iterator[PreparedPipeline]:
        with restoring_weights(model):
            with model.threads():
                train(advance)
            yield PreparedPipeline(model.pipeline)

    return ModelVariant(digest, prepare, setup_steps)


def train_weights(
    model: LoadedModel,
    names: Sequence[str],
    training_set: TrainingSet,
    *,
    steps: int,
    rate: float,
    seed: int,
    advance: Advance,
) -> None:
    """Train parameters of the U-Net in a model's pipeline, given the names that they have there.

    ``rate`` is the learning rate for SD1.x itself.
    """
    architecture = model.architecture
    network = Network(model.pipeline, architecture, names)
    own_rate = rate * SD1.unet[0] / architecture.widths.unet[0]
    optimiser = torch.optim.AdamW(network.trained.values(), own_rate)
    scheduler = DDPMScheduler.from_config(model.pipeline.scheduler.config)
    template_count = len(training_set.prompts[0])
    for step in range(steps):
        generator = generator_of(seed, step)
        drawn = draw_batch(training_set.latents, template_count, BATCH, scheduler, generator)
        places = zip(drawn.pictures.tolist(), drawn.templates.tolist(), strict=True)
        prompts = tuple(training_set.prompts[picture][template] for picture, template in places)
        goal = drawn.goal.to(network.device)
        take_step(
            network, TrainingBatch(drawn.noisy_latents, drawn.times, prompts, goal), optimiser
        )
        advance(WORK_PER_STEP)
    dtype = model.pipeline.vae.dtype  # trained tensors are float32, whatever the pipeline's are
    for parameter in network.trained.values():
        parameter.data = parameter.data.to(dtype)
        parameter.grad = None
