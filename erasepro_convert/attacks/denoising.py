"""What attacks train on: noisy latents of pictures, and what the U-Net should predict from them."""

from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from torch import Tensor

from erasepro_convert.evaluate.image_store import Pixels

TEMPLATES = ("{}", "a photo of {}", "a picture of {}", "a drawing of {}", "an image of a {}")
"""The prompts in which words are trained."""


@dataclass(frozen=True)
class DenoisingBatch:
    """What one training step denoises: noisy latents, each with its time and prompt.

    ``pictures`` and ``templates`` are numbers: which picture it is, and which of its prompts the
    U-Net is given.  ``goal`` is what the U-Net should predict: the noise, or the velocity.
    """

    noisy_latents: Tensor
    times: Tensor
    goal: Tensor
    pictures: Tensor
    templates: Tensor


def work_per_step(batch: int) -> int:
    """Return the work of a training step with ``batch`` pictures, in denoising steps of one.

    A training step costs about three passes through the U-Net a picture, a denoising step two.
    """
    return batch * 3 // 2


def draw_batch(
    latents: Tensor,
    template_count: int,
    batch: int,
    scheduler: DDPMScheduler,
    generator: torch.Generator,
) -> DenoisingBatch:
    """Draw pictures, templates, noise and times of one training step."""
    pictures = torch.randint(len(latents), (batch,), generator=generator)
    clean = latents[pictures]
    templates = torch.randint(template_count, (batch,), generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    # One time is taken from each of ``batch`` equal spans, so that each batch covers them all.
    shares = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
    times = (shares * scheduler.config.num_train_timesteps).long()
    predicts_velocity = scheduler.config.prediction_type == "v_prediction"
    goal = scheduler.get_velocity(clean, noise, times) if predicts_velocity else noise
    noisy = scheduler.add_noise(clean, noise, times)
    return DenoisingBatch(noisy, times, goal, pictures, templates)


def encode_pictures(pipeline: StableDiffusionPipeline, pictures: Pixels) -> Tensor:
    """Encode pictures by the VAE and scale the latents for the U-Net: float32, on the CPU."""
    vae = pipeline.vae
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        encoded = [
            vae.encode(part.to(vae.device, vae.dtype)).latent_dist.mean for part in pixels.split(8)
        ]
    scaled: Tensor = torch.cat(encoded).float().cpu() * vae.config.scaling_factor
    return scaled
