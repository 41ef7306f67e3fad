"""The technique ``erasepro`` of eval-unlearn, a benchmark package: an erased checkpoint that draws.

That package finds it by its entry point; nothing of that package is imported here.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from erasepro_convert.evaluate.drawing import with_sampler
from erasepro_convert.evaluate.settings import settings_of
from erasepro_convert.images.generate import Job, Sampling, generate
from erasepro_convert.images.grid import image
from erasepro_convert.images.pipeline import load_pipeline
from erasepro_convert.recipe import Evaluate
from erasepro_convert.sd1.architecture import Sampler


class ErasePro:
    """Draws with any checkpoint that we read, as ``evaluate`` does.

    Prompts are numbered through all batches and each is drawn with the seed of its number, since
    the package's command gives none, and its runners the same one to each batch.
    """

    def __init__(
        self,
        checkpoint: str,
        erase_concept: str | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        sampler: Sampler | None = None,
        size: int | None = None,
    ) -> None:
        """The parameters are ``technique.config`` of a benchmark; all but the first have defaults.

        ``erase_concept`` is not for us: the package reads it there, for the names of reports and
        for metrics that are made for one concept.

        Raises CheckpointError for a file that makes no pictures, pydantic's ValidationError for a
        setting that is none; OSError passes through.
        """
        asked = Evaluate(steps=steps, guidance=guidance, sampler=sampler, size=size)
        pipeline, architecture = load_pipeline(Path(checkpoint))
        settings = settings_of(asked, architecture)
        self._pipeline = with_sampler(pipeline, settings.sampler)
        self._architecture = replace(architecture, size=settings.size)
        self._sampling = Sampling(settings.steps, settings.guidance)
        self._seed, self._drawn = seed, 0

    def generate(self, prompts: Sequence[str], seed: int | None = None) -> list[Image.Image]:
        """A picture of each prompt; ``seed`` is of the first one and goes before the numbers'."""
        first = self._seed + self._drawn if seed is None else seed
        self._drawn += len(prompts)
        jobs = [Job(prompt, first + number) for number, prompt in enumerate(prompts)]
        if not jobs:
            return []
        with torch.inference_mode():
            made = generate(
                self._pipeline, self._architecture, jobs, self._sampling, lambda _: None
            )
        return [image(picture) for picture in made]
