"""``ti``: textual inversion, the embedding of one new word trained until it draws what it should.

Gal et al., *An Image is Worth One Word* (2023).  All weights stay as they are: what comes back was
never gone.  A sign that no model was trained on says what the training itself can teach.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from torch import Tensor
from torch.nn import functional

from erasepro_convert.attacks import control_concept as sign
from erasepro_convert.attacks.case import Case, Trial
from erasepro_convert.attacks.model import Advance, Model, ModelVariant, PromptSet, Ready
from erasepro_convert.clip.tokenizer import tokenize
from erasepro_convert.evaluate.image_store import Pixels, pixels_of
from erasepro_convert.runtime.hashing import json_digest
from erasepro_convert.runtime.threads import one_thread

WORD = "sks"
"""A token that means nothing; its embedding is what is trained."""

TEMPLATES = ("{}", "a photo of {}", "a picture of {}", "a drawing of {}", "an image of a {}")
"""What the word is trained in."""

BATCH = 16
RATE = 0.1
"""Of Adam, relative to the typical number in the model's embeddings."""

EFFORT = BATCH * 3 // 2
"""Denoising steps of one picture, each two passes, that a training step takes as long as."""

SCALE = 1024.0
"""Of the loss: gradients of half precision would vanish, and Adam does not mind."""

SIGNS = 40


def trials(case: Case) -> Iterator[Trial]:
    """The target's word with the sign's as control, then the sign's by itself."""
    names = [path.name for path in case.pictures]

    def of_target() -> Pixels:
        return pixels_of(case.pictures)

    def of_sign() -> Pixels:
        return sign.drawings(SIGNS, case.original.architecture.size)

    asked = case.saying(WORD)
    models = case.original, case.erased
    original, erased = (
        PromptSet(_taught(model, case, names, of_target), asked) for model in models
    )
    known = ["sign", sign.VERSION, SIGNS]
    before, after = (PromptSet(_taught(model, case, known, of_sign), asked) for model in models)
    yield Trial("ti", "trained on the target", erased, original, control=after)
    yield Trial("ti", "trained on the sign", after, before, control=None, wanted="sign")


def _taught(
    model: Model, case: Case, learns: list[object] | list[str], pictures: Callable[[], Pixels]
) -> ModelVariant:
    """A model with a word that is trained when it is first needed."""
    vectors: list[Tensor] = []
    at_once = min(BATCH, model.architecture.batch)

    @contextmanager
    def ready(advance: Advance) -> Iterator[Ready]:
        if not vectors:
            with one_thread() if at_once > 1 else nullcontext():
                vectors.append(
                    trained(model.pipeline, pictures(), case.steps, case.seed, at_once, advance)
                )
        with meaning(model.pipeline, vectors[0]):
            yield Ready(model.pipeline)

    identity = json_digest(["ti", model.digest, case.steps, case.seed, learns])
    return ModelVariant(identity, ready, case.steps * EFFORT)


@contextmanager
def meaning(pipeline: StableDiffusionPipeline, vector: Tensor) -> Iterator[None]:
    """Let WORD have this embedding."""
    (word,) = _word_ids()

    def replaced(_: object, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        return torch.where((inputs[0] == word)[..., None], vector.to(output), output)

    handle = pipeline.text_encoder.get_input_embeddings().register_forward_hook(replaced)
    try:
        yield
    finally:
        handle.remove()


def trained(
    pipeline: StableDiffusionPipeline,
    pictures: Pixels,
    steps: int,
    seed: int,
    at_once: int,
    advance: Advance,
) -> Tensor:
    """The embedding (d) after some steps of learning to denoise pictures (n, size, size, 3).

    ``at_once`` is how many pictures go through the U-Net together.  It starts from the mean of all
    embeddings that the model has, which knows of no concept.
    """
    generator = torch.Generator().manual_seed(seed)
    noising = DDPMScheduler.from_config(pipeline.scheduler.config)
    times = noising.config.num_train_timesteps
    latents = _latents(pipeline, pictures)
    table: Tensor = pipeline.text_encoder.get_input_embeddings().weight.detach().float()
    table = table[table.any(dim=1)]
    vector = table.mean(0).requires_grad_()
    adam = torch.optim.Adam([vector], lr=RATE * float(table.square().mean().sqrt()))
    device = pipeline.unet.device
    ids = torch.tensor([tokenize(t.format(WORD)).ids for t in TEMPLATES], device=device)
    parts = torch.arange(BATCH).split(at_once)
    for model in (pipeline.unet, pipeline.text_encoder):
        model.requires_grad_(False)
    with meaning(pipeline, vector), torch.enable_grad():
        for _ in range(steps):
            x = latents[torch.randint(len(latents), (BATCH,), generator=generator)]
            asked = torch.randint(len(ids), (BATCH,), generator=generator)
            noise = torch.randn(x.shape, generator=generator)
            # one time from each of BATCH equal spans, so that no batch misses a part
            spans = (torch.arange(BATCH) + torch.rand(BATCH, generator=generator)) / BATCH
            t = (spans * times).long()
            noisy = noising.add_noise(x, noise, t)
            predicts_v = noising.config.prediction_type == "v_prediction"
            goal = noising.get_velocity(x, noise, t) if predicts_v else noise
            for rows in parts:
                states = pipeline.text_encoder(ids)[0][asked[rows].to(device)]
                found = pipeline.unet(
                    noisy[rows].to(device, states.dtype), t[rows].to(device), states
                ).sample
                loss = functional.mse_loss(found.float(), goal[rows].to(device), reduction="sum")
                (loss * SCALE / goal.numel()).backward()
            adam.step()
            adam.zero_grad()
            advance(EFFORT)
    return vector.detach()


def _latents(pipeline: StableDiffusionPipeline, pictures: Pixels) -> Tensor:
    """What the VAE makes of pictures, as the U-Net knows it; float32, on the CPU."""
    vae = pipeline.vae
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        parts = [vae.encode(p.to(vae.device, vae.dtype)).latent_dist.mean for p in pixels.split(8)]
    scaled: Tensor = torch.cat(parts).float().cpu() * vae.config.scaling_factor
    return scaled


def _word_ids() -> tuple[int, ...]:
    tokens = tokenize(WORD)
    return tokens.ids[1 : tokens.count - 1]
