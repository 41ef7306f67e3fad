"""``ti``: textual inversion trains the embedding of one new word on pictures of the target.

Gal et al., *An Image is Worth One Word* (2023).  All weights stay as they are, so that a concept
that comes back was still in the model.  Training on the control concept, a sign that no model was
trained on, shows what such training can teach by itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from torch import Tensor
from torch.nn import functional

from erasepro_convert.attacks.case import AttackCase, AttackContext
from erasepro_convert.attacks.denoising import (
    TEMPLATES,
    draw_batch,
    encode_pictures,
    work_per_step,
)
from erasepro_convert.attacks.model import (
    Advance,
    LoadedModel,
    ModelVariant,
    PreparedPipeline,
    PromptSets,
    prompt_sets,
)
from erasepro_convert.attacks.training_pictures import (
    TrainingPictures,
    sign_pictures,
    target_pictures,
)
from erasepro_convert.attacks.word_embedding import WORD, known_embeddings, replacing_word_embedding
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.evaluate.image_store import Pixels
from erasepro_convert.runtime.hashing import json_digest

BATCH = 16
LEARNING_RATE = 0.1
"""Adam's learning rate, relative to the root mean square of the model's embeddings."""

WORK_PER_STEP = work_per_step(BATCH)
"""The work of one training step, in denoising steps of one picture."""

LOSS_SCALE = 1024.0
"""A factor of the loss, without which gradients vanish in half precision; Adam scales it away."""


def inversion_cases(context: AttackContext) -> Iterator[AttackCase]:
    """Give the case of a word trained on the target, then that of one trained on the control sign.

    The word trained on the sign is also the control of the first case.
    """
    prompts = context.rewritten(context.with_words(WORD))
    on_target, on_sign = target_pictures(context), sign_pictures(context)

    def trained(model: LoadedModel, pictures: TrainingPictures) -> PromptSets:
        seeds = range(context.effort.seeds)
        variants = (_trained_variant(model, context.effort.steps, s, pictures) for s in seeds)
        return prompt_sets(variants, prompts)

    target_original, target_erased, sign_original, sign_erased = (
        trained(model, pictures)
        for pictures in (on_target, on_sign)
        for model in (context.original, context.erased)
    )
    yield AttackCase("ti", "trained on the target", target_erased, target_original, sign_erased)
    yield AttackCase("ti", "trained on the sign", sign_erased, sign_original, (), wanted="sign")


def _trained_variant(
    model: LoadedModel, steps: int, seed: int, pictures: TrainingPictures
) -> ModelVariant:
    """Return a variant with a trained word; the training runs when it is first needed."""
    trained: list[Tensor] = []
    micro_batch_size = min(BATCH, model.architecture.batch)

    @contextmanager
    def prepare(advance: Advance) -> Iterator[PreparedPipeline]:
        if not trained:
            with model.threads():
                loaded = pictures.load()
                trained.append(
                    train_embedding(model.pipeline, loaded, steps, seed, micro_batch_size, advance)
                )
        with replacing_word_embedding(model.pipeline.text_encoder, trained[0]):
            yield PreparedPipeline(model.pipeline)

    digest = json_digest(["ti", model.digest, steps, seed, pictures.named])
    return ModelVariant(digest, prepare, steps * WORK_PER_STEP)


def train_embedding(
    pipeline: StableDiffusionPipeline,
    pictures: Pixels,
    steps: int,
    seed: int,
    micro_batch_size: int,
    advance: Advance,
) -> Tensor:
    """Train an embedding (1 × d) to denoise pictures (n, size, size, 3), and return it.

    ``micro_batch_size`` is how many pictures go through the U-Net together.  The embedding starts
    from the mean of all the model's embeddings, which stands for no concept.
    """
    generator = torch.Generator().manual_seed(seed)
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    latents = encode_pictures(pipeline, pictures)
    table = known_embeddings(pipeline.text_encoder)
    embedding = table.mean(0, keepdim=True).requires_grad_()
    adam = torch.optim.Adam([embedding], lr=LEARNING_RATE * float(table.square().mean().sqrt()))
    device = pipeline.unet.device
    ids = torch.tensor([tokenize(t.format(WORD)).ids for t in TEMPLATES], device=device)
    micro_batches = torch.arange(BATCH).split(micro_batch_size)
    for model in (pipeline.unet, pipeline.text_encoder):
        model.requires_grad_(False)
    with replacing_word_embedding(pipeline.text_encoder, embedding), torch.enable_grad():
        for _ in range(steps):
            batch = draw_batch(latents, len(TEMPLATES), BATCH, scheduler, generator)
            for rows in micro_batches:
                states = pipeline.text_encoder(ids)[0][batch.templates[rows].to(device)]
                predicted = pipeline.unet(
                    batch.noisy_latents[rows].to(device, states.dtype),
                    batch.times[rows].to(device),
                    states,
                ).sample
                goal = batch.goal[rows].to(device)
                loss = functional.mse_loss(predicted.float(), goal, reduction="sum")
                (loss * LOSS_SCALE / batch.goal.numel()).backward()
            adam.step()
            adam.zero_grad()
            advance(WORK_PER_STEP)
    return embedding.detach()
