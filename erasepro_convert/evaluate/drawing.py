"""Making what is missing of some pictures, in parts that are always the same."""

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
from erasepro_convert.images.generate import Job, Sampling, generate
from erasepro_convert.runtime.threads import parallel_map
from erasepro_convert.sd1.architecture import Architecture, Sampler

APART = 4
"""Parts of a batch of a small model, which are drawn side by side."""

Wanted = Mapping[ImageRequest, Path]


def missing(wanted: Wanted, architecture: Architecture) -> list[list[ImageRequest]]:
    """The parts of what is wanted that are not all there.

    What is missing is drawn beside what was drawn beside it the first time: its sums are then the
    same to the last bit.
    """
    return [
        part
        for part in _parts(wanted, architecture)
        if not all(wanted[shot].exists() for shot in part)
    ]


def shard(wanted: Wanted, architecture: Architecture, number: int, count: int) -> Wanted:
    """Every ``count``-th part of what is wanted, from the ``number``-th (1-based).

    Parts stay what they are, so that shards draw the very pictures that one run would.  Raises
    UsageError for a shard that there is not.
    """
    if not 1 <= number <= count:
        raise UsageError(f"shard {number}/{count}: write 1/{count} to {count}/{count}")
    mine = islice(_parts(wanted, architecture), number - 1, None, count)
    return {shot: wanted[shot] for part in mine for shot in part}


def draw(
    pipeline: StableDiffusionPipeline,
    architecture: Architecture,
    wanted: Wanted,
    settings: Settings,
    album: ImageStore,
    advance: Callable[[int], None],
    embed: Callable[[Sequence[str]], Tensor] | None = None,
) -> None:
    """Make what is missing; ``advance`` and ``embed`` are as in ``generate``.

    A small model on a CPU draws parts side by side in one thread each: threads that share its sums
    mostly wait for each other, and the sums do not depend on how many cores there are.
    """
    architecture = replace(architecture, size=settings.size)

    def make(part: list[ImageRequest]) -> None:
        jobs = [Job(shot.prompt, shot.seed) for shot in part]
        sampling = Sampling(settings.steps, part[0].guidance)
        own = with_sampler(pipeline, settings.sampler)
        made = generate(own, architecture, jobs, sampling, advance, embed)
        for shot, picture in zip(part, made, strict=True):
            if not wanted[shot].exists():
                album.add(wanted[shot], picture)

    parts = missing(wanted, architecture)
    if _is_small(architecture) and pipeline.device.type == "cpu":
        parallel_map(make, parts)
        return
    with torch.inference_mode():
        for part in parts:
            make(part)


def _parts(wanted: Wanted, architecture: Architecture) -> Iterator[list[ImageRequest]]:
    """What is drawn together: some pictures of one guidance scale, for the sampler takes one."""
    together = architecture.batch // APART if _is_small(architecture) else architecture.batch
    groups: dict[float, list[ImageRequest]] = {}
    for shot in wanted:
        groups.setdefault(shot.guidance, []).append(shot)
    for shots in groups.values():
        for start in range(0, len(shots), together):
            yield shots[start : start + together]


def _is_small(architecture: Architecture) -> bool:
    return architecture.batch >= APART


def with_sampler(pipeline: StableDiffusionPipeline, sampler: Sampler) -> StableDiffusionPipeline:
    """The same models with a sampler of their own, which counts its steps."""
    if sampler == "ddpm":
        scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    else:
        scheduler = deepcopy(pipeline.scheduler)
    parts = pipeline.components | {"scheduler": scheduler}
    own = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    own.set_progress_bar_config(disable=True)
    return own
