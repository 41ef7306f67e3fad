"""Generating pictures: prompt, seed and settings alone decide the initial noise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from erasepro_convert.sd1.architecture import Architecture


@dataclass(frozen=True)
class Sampling:
    """The settings of a sampler: denoising steps and guidance scale."""

    steps: int
    guidance: float


@dataclass(frozen=True)
class SeededPrompt:
    """A prompt and a seed: one picture to generate."""

    prompt: str
    seed: int


Start = Callable[[StableDiffusionPipeline, Sequence[SeededPrompt], Tensor], Callable[..., Any]]
"""Says what drawings start from.

It gets a pipeline, a batch of prompts, and their noise (n × 4 × height/8 × width/8).  It returns a
pipeline that has been given its start and takes all other arguments.
"""


def from_noise(
    pipeline: StableDiffusionPipeline, _: Sequence[SeededPrompt], noise: Tensor
) -> Callable[..., Any]:
    """Start from the noise."""
    height, width = (side * 8 for side in noise.shape[-2:])
    return partial(pipeline, latents=noise, height=height, width=width)


def generate(
    pipeline: StableDiffusionPipeline,
    architecture: Architecture,
    prompts: Sequence[SeededPrompt],
    sampling: Sampling,
    advance: Callable[[int], None],
    embed: Callable[[Sequence[str]], Tensor] | None = None,
    start: Start = from_noise,
) -> Tensor:
    """Return one picture for each prompt: (prompts, 3, size, size), uint8, on the CPU.

    Noise is drawn on the CPU by one generator for each picture, so that neither the batch nor the
    device changes the noise of a picture.  ``advance`` gets the number of denoising steps done
    since its last call, summed over pictures.  ``embed`` computes text features (n × 77 × d) in
    place of the pipeline.  ``start`` says what drawings start from.
    """
    latent_size = architecture.size // 8
    pictures = []
    for first in range(0, len(prompts), architecture.batch):
        batch = prompts[first : first + architecture.batch]
        generators = [torch.Generator().manual_seed(prompt.seed) for prompt in batch]
        noise = [
            torch.randn(4, latent_size, latent_size, generator=generator)
            for generator in generators
        ]

        def step_done(_: object, step: int, time: object, state: dict[str, Any]) -> dict[str, Any]:
            advance(len(batch))  # noqa: B023  # it is only called within this iteration
            return state

        texts = [prompt.prompt for prompt in batch]
        latents = torch.stack(noise).to(pipeline.unet.device, pipeline.unet.dtype)
        drawn = start(pipeline, batch, latents)(
            **({"prompt_embeds": embed(texts)} if embed else {"prompt": texts}),
            num_inference_steps=sampling.steps,
            guidance_scale=sampling.guidance,
            generator=generators,  # for samplers that add noise on the way, and for some starts
            callback_on_step_end=step_done,
            output_type="pt",
        ).images
        pictures.append((drawn.float().clamp(0, 1) * 255).round().to("cpu", torch.uint8))
    return torch.cat(pictures)
