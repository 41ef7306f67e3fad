"""Pictures of prompts: the same prompt, seed and settings give the same start in every model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from erasepro_convert.sd1.architecture import Architecture


@dataclass(frozen=True)
class Sampling:
    """How pictures are made: denoising steps and guidance scale."""

    steps: int
    guidance: float


@dataclass(frozen=True)
class Job:
    """One picture to make."""

    prompt: str
    seed: int


def generate(
    pipeline: StableDiffusionPipeline,
    architecture: Architecture,
    jobs: Sequence[Job],
    sampling: Sampling,
    advance: Callable[[int], None],
    embed: Callable[[Sequence[str]], Tensor] | None = None,
) -> Tensor:
    """One picture a job: (jobs, 3, size, size), uint8, on the CPU.

    Noise is drawn on the CPU by one generator a job, so neither the batch nor the device changes
    what a picture gets.  ``advance`` gets the number of denoising steps done since its last
    call, summed over pictures.  ``embed`` makes text features (n × 77 × d) in the
    pipeline's place.
    """
    side = architecture.size // 8
    pictures = []
    for start in range(0, len(jobs), architecture.batch):
        batch = jobs[start : start + architecture.batch]
        generators = [torch.Generator().manual_seed(job.seed) for job in batch]
        noise = [torch.randn(4, side, side, generator=generator) for generator in generators]

        def step_done(_: object, step: int, time: object, state: dict[str, Any]) -> dict[str, Any]:
            advance(len(batch))  # noqa: B023  # called within this turn only
            return state

        prompts = [job.prompt for job in batch]
        made = pipeline(
            **({"prompt_embeds": embed(prompts)} if embed else {"prompt": prompts}),
            latents=torch.stack(noise).to(pipeline.unet.device, pipeline.unet.dtype),
            height=architecture.size,
            width=architecture.size,
            num_inference_steps=sampling.steps,
            guidance_scale=sampling.guidance,
            generator=generators,  # for samplers that add noise on the way
            callback_on_step_end=step_done,
            output_type="pt",
        ).images
        pictures.append((made.float().clamp(0, 1) * 255).round().to("cpu", torch.uint8))
    return torch.cat(pictures)
