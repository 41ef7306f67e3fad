"""``ti``: textual inversion trains the embedding of one new word on pictures of the target.

Gal et al., *An Image is Worth One Word* (2023).  All weights stay as they are, so that a concept
that comes back was still in the model.  Training on the control concept, a sign that no model was
trained on, shows what such training can teach by itself.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from torch import Tensor
from torch.nn import functional

from erasepro_convert.attacks.case import AttackCase, AttackContext, PromptSets
from erasepro_convert.attacks.control_concept import (
    CONTROL_PICTURES,
    DRAWING_VERSION,
    draw_control_pictures,
)
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
    PromptSet,
)
from erasepro_convert.attacks.word_embedding import WORD, known_embeddings, replacing_word_embedding
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.evaluate.image_store import Pixels, load_pixels
from erasepro_convert.runtime.hashing import json_digest
from erasepro_convert.runtime.threads import one_thread

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
    names = [path.name for path in context.pictures]
    drawing = ["sign", DRAWING_VERSION, CONTROL_PICTURES]
    prompts = context.rewritten(context.with_words(WORD))

    def sign_pictures() -> Pixels:
        return draw_control_pictures(CONTROL_PICTURES, context.original.architecture.size)

    def trained(
        model: LoadedModel, training_set: Sequence[object], load: Callable[[], Pixels]
    ) -> PromptSets:
        return tuple(
            PromptSet(_trained_variant(model, context.steps, seed, training_set, load), prompts)
            for seed in range(context.seeds)
        )

    target_original, target_erased = (
        trained(model, names, partial(load_pixels, context.pictures))
        for model in (context.original, context.erased)
    )
    sign_original, sign_erased = (
        trained(model, drawing, sign_pictures) for model in (context.original, context.erased)
    )
    yield AttackCase("ti", "trained on the target", target_erased, target_original, sign_erased)
    yield AttackCase("ti", "trained on the sign", sign_erased, sign_original, (), wanted="sign")


def _trained_variant(
    model: LoadedModel,
    steps: int,
    seed: int,
    training_set: Sequence[object],
    load_pictures: Callable[[], Pixels],
) -> ModelVariant:
    """Return a variant with a trained word; the training runs when it is first needed.

    ``training_set`` names the pictures that the word is trained on, for the digest.
    """
    trained: list[Tensor] = []
    micro_batch_size = min(BATCH, model.architecture.batch)
    # Threads that share the sums of a small model's U-Net mostly wait for each other.
    is_small_model = model.architecture.batch > 1

    @contextmanager
    def prepare(advance: Advance) -> Iterator[PreparedPipeline]:
        if not trained:
            with one_thread() if is_small_model else nullcontext():
                pictures = load_pictures()
                trained.append(
                    train_embedding(
                        model.pipeline, pictures, steps, seed, micro_batch_size, advance
                    )
                )
        with replacing_word_embedding(model.pipeline.text_encoder, trained[0]):
            yield PreparedPipeline(model.pipeline)

    digest = json_digest(["ti", model.digest, steps, seed, training_set])
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
