"""``ti``: textual inversion trains the embedding of one new word on pictures of the target.

Gal et al., *An Image is Worth One Word* (2023).  All weights stay as they are, so that a concept
that comes back was still in the model.  Training on the control concept, a sign that no model was
trained on, shows what such training can teach by itself.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from torch import Tensor
from torch.nn import functional

from erasepro_convert.attacks.case import AttackCase, AttackContext
from erasepro_convert.attacks.control_concept import DRAWING_VERSION, draw_control_pictures
from erasepro_convert.attacks.model import (
    Advance,
    ModelVariant,
    PreparedPipeline,
    PromptSet,
    StressedModel,
)
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.evaluate.image_store import Pixels, load_pixels
from erasepro_convert.runtime.hashing import json_digest
from erasepro_convert.runtime.threads import one_thread

WORD = "sks"
"""A rare token: its own embedding is replaced, so its meaning does not matter."""

TEMPLATES = ("{}", "a photo of {}", "a picture of {}", "a drawing of {}", "an image of a {}")
"""The prompts in which the word is trained."""

BATCH = 16
LEARNING_RATE = 0.1
"""Adam's learning rate, relative to the root mean square of the model's embeddings."""

WORK_PER_STEP = BATCH * 3 // 2
"""The work of one training step, in denoising steps of one picture.

A training step costs about three passes through the U-Net a picture, a denoising step two.
"""

LOSS_SCALE = 1024.0
"""A factor of the loss, without which gradients vanish in half precision; Adam scales it away."""

CONTROL_PICTURES = 40


def inversion_cases(context: AttackContext) -> Iterator[AttackCase]:
    """Give the case of a word trained on the target, then that of one trained on the sign.

    The word trained on the sign is also the control of the first case.
    """
    names = [path.name for path in context.pictures]

    def target_pictures() -> Pixels:
        return load_pixels(context.pictures)

    def control_pictures() -> Pixels:
        return draw_control_pictures(CONTROL_PICTURES, context.original.architecture.size)

    prompts = context.with_words(WORD)
    models = context.original, context.erased
    target_original, target_erased = (
        PromptSet(_trained_variant(model, context, names, target_pictures), prompts)
        for model in models
    )
    drawing = ["sign", DRAWING_VERSION, CONTROL_PICTURES]
    sign_original, sign_erased = (
        PromptSet(_trained_variant(model, context, drawing, control_pictures), prompts)
        for model in models
    )
    yield AttackCase(
        "ti", "trained on the target", target_erased, target_original, control=sign_erased
    )
    yield AttackCase(
        "ti", "trained on the sign", sign_erased, sign_original, control=None, wanted="sign"
    )


def _trained_variant(
    model: StressedModel,
    context: AttackContext,
    training_set: list[object] | list[str],
    pictures: Callable[[], Pixels],
) -> ModelVariant:
    """Return a variant with a trained word; the training runs when it is first needed.

    ``training_set`` tells apart what the word is trained on, for the digest.
    """
    vectors: list[Tensor] = []
    micro_batch = min(BATCH, model.architecture.batch)

    @contextmanager
    def prepare(advance: Advance) -> Iterator[PreparedPipeline]:
        if not vectors:
            with one_thread() if micro_batch > 1 else nullcontext():
                vectors.append(
                    train_embedding(
                        model.pipeline,
                        pictures(),
                        context.steps,
                        context.seed,
                        micro_batch,
                        advance,
                    )
                )
        with with_embedding(model.pipeline, vectors[0]):
            yield PreparedPipeline(model.pipeline)

    digest = json_digest(["ti", model.digest, context.steps, context.seed, training_set])
    return ModelVariant(digest, prepare, context.steps * WORK_PER_STEP)


@contextmanager
def with_embedding(pipeline: StableDiffusionPipeline, vector: Tensor) -> Iterator[None]:
    """Give WORD this embedding while the block runs."""
    (word,) = _word_ids()

    def replaced(_: object, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        return torch.where((inputs[0] == word)[..., None], vector.to(output), output)

    handle = pipeline.text_encoder.get_input_embeddings().register_forward_hook(replaced)
    try:
        yield
    finally:
        handle.remove()


def train_embedding(
    pipeline: StableDiffusionPipeline,
    pictures: Pixels,
    steps: int,
    seed: int,
    micro_batch: int,
    advance: Advance,
) -> Tensor:
    """Train an embedding (d) to denoise pictures (n, size, size, 3), and return it.

    ``micro_batch`` is how many pictures go through the U-Net together.  The embedding starts from
    the mean of all the model's embeddings, which stands for no concept.
    """
    generator = torch.Generator().manual_seed(seed)
    noising = DDPMScheduler.from_config(pipeline.scheduler.config)
    times = noising.config.num_train_timesteps
    latents = _latents(pipeline, pictures)
    table: Tensor = pipeline.text_encoder.get_input_embeddings().weight.detach().float()
    table = table[table.any(dim=1)]  # words that a small model never learnt have zero rows
    vector = table.mean(0).requires_grad_()
    adam = torch.optim.Adam([vector], lr=LEARNING_RATE * float(table.square().mean().sqrt()))
    device = pipeline.unet.device
    ids = torch.tensor([tokenize(t.format(WORD)).ids for t in TEMPLATES], device=device)
    parts = torch.arange(BATCH).split(micro_batch)
    for model in (pipeline.unet, pipeline.text_encoder):
        model.requires_grad_(False)
    with with_embedding(pipeline, vector), torch.enable_grad():
        for _ in range(steps):
            x = latents[torch.randint(len(latents), (BATCH,), generator=generator)]
            templates = torch.randint(len(ids), (BATCH,), generator=generator)
            noise = torch.randn(x.shape, generator=generator)
            # One time is taken from each of BATCH equal spans, so that each batch covers them all.
            spans = (torch.arange(BATCH) + torch.rand(BATCH, generator=generator)) / BATCH
            t = (spans * times).long()
            noisy = noising.add_noise(x, noise, t)
            predicts_v = noising.config.prediction_type == "v_prediction"
            goal = noising.get_velocity(x, noise, t) if predicts_v else noise
            for rows in parts:
                states = pipeline.text_encoder(ids)[0][templates[rows].to(device)]
                found = pipeline.unet(
                    noisy[rows].to(device, states.dtype), t[rows].to(device), states
                ).sample
                loss = functional.mse_loss(found.float(), goal[rows].to(device), reduction="sum")
                (loss * LOSS_SCALE / goal.numel()).backward()
            adam.step()
            adam.zero_grad()
            advance(WORK_PER_STEP)
    return vector.detach()


def _latents(pipeline: StableDiffusionPipeline, pictures: Pixels) -> Tensor:
    """Encode pictures by the VAE and scale the latents for the U-Net: float32, on the CPU."""
    vae = pipeline.vae
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        parts = [vae.encode(p.to(vae.device, vae.dtype)).latent_dist.mean for p in pixels.split(8)]
    scaled: Tensor = torch.cat(parts).float().cpu() * vae.config.scaling_factor
    return scaled


def _word_ids() -> tuple[int, ...]:
    tokens = tokenize(WORD)
    return tokens.ids[1 : tokens.count - 1]
