"""Drawing the pictures that do not exist yet, in batches that never change their members."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from torch import Tensor

from erasepro_convert.errors import UsageError
from erasepro_convert.evaluate.image_store import ImageStore, Settings
from erasepro_convert.evaluate.plan import ImageRequest
from erasepro_convert.images.generate import Sampling, SeededPrompt, Start, from_noise, generate
from erasepro_convert.runtime.threads import parallel_map
from erasepro_convert.sd1.architecture import Architecture, Sampler

PARALLEL_BATCHES = 4
"""A small model's batch is split into this many, which are drawn in parallel."""

ImagePaths = Mapping[ImageRequest, Path]
"""Where the picture of each request lies, or will lie."""


def missing_batches(paths: ImagePaths, architecture: Architecture) -> list[list[ImageRequest]]:
    """Return the batches of which at least one picture does not exist.

    A missing picture is drawn again in its whole batch, so that it is the same to the last bit.
    """
    return [
        batch
        for batch in _batches(paths, architecture)
        if not all(paths[request].exists() for request in batch)
    ]


def shard(paths: ImagePaths, architecture: Architecture, number: int, count: int) -> ImagePaths:
    """Return every ``count``-th batch of the pictures, from batch ``number`` on (counted from 1).

    Batches keep their members, so that shards draw the very pictures that one run would.  Raises
    UsageError for a number out of range.
    """
    if not 1 <= number <= count:
        raise UsageError(f"shard {number}/{count}: write 1/{count} to {count}/{count}")
    batches = islice(_batches(paths, architecture), number - 1, None, count)
    return {request: paths[request] for batch in batches for request in batch}


def draw_missing(
    pipeline: StableDiffusionPipeline,
    architecture: Architecture,
    paths: ImagePaths,
    settings: Settings,
    store: ImageStore,
    advance: Callable[[int], None],
    embed: Callable[[Sequence[str]], Tensor] | None = None,
    start: Start = from_noise,
) -> None:
    """Draw the pictures that do not exist.

    ``advance``, ``embed`` and ``start`` are as in ``generate``.

    A small model on a CPU draws batches in parallel, in one thread each: threads that share one
    of its matrix products mostly wait for each other.  The sums do not depend on the number of
    cores then.
    """
    architecture = replace(architecture, size=settings.size)

    def draw(batch: list[ImageRequest]) -> None:
        prompts = [SeededPrompt(request.prompt, request.seed) for request in batch]
        sampling = Sampling(settings.steps, batch[0].guidance)
        own_pipeline = with_sampler(pipeline, settings.sampler)
        pictures = generate(own_pipeline, architecture, prompts, sampling, advance, embed, start)
        for request, picture in zip(batch, pictures, strict=True):
            if not paths[request].exists():
                store.add(paths[request], picture)

    batches = missing_batches(paths, architecture)
    if _is_small(architecture) and pipeline.device.type == "cpu":
        parallel_map(draw, batches)
        return
    with torch.inference_mode():
        for batch in batches:
            draw(batch)


def _batches(paths: ImagePaths, architecture: Architecture) -> Iterator[list[ImageRequest]]:
    """Split requests into batches of one guidance scale each, since a pipeline takes only one."""
    size = architecture.batch
    if _is_small(architecture):
        size //= PARALLEL_BATCHES
    groups: dict[float, list[ImageRequest]] = {}
    for request in paths:
        groups.setdefault(request.guidance, []).append(request)
    for requests in groups.values():
        for start in range(0, len(requests), size):
            yield requests[start : start + size]


def _is_small(architecture: Architecture) -> bool:
    return architecture.batch >= PARALLEL_BATCHES


def with_sampler(pipeline: StableDiffusionPipeline, sampler: Sampler) -> StableDiffusionPipeline:
    """Return a pipeline that shares the models but has its own sampler, which counts steps."""
    if sampler == "ddpm":
        # The other sampler's configuration does not say that latents are not to be clipped.
        scheduler = DDPMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    else:
        scheduler = deepcopy(pipeline.scheduler)
    parts = pipeline.components | {"scheduler": scheduler}
    sampled = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    sampled.set_progress_bar_config(disable=True)
    return sampled
