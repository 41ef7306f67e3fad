"""The technique ``erasepro`` for the benchmark package eval-unlearn.

eval-unlearn finds the class by its entry point; nothing of eval-unlearn is imported here.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from erasepro_convert.evaluate.drawing import with_sampler
from erasepro_convert.evaluate.settings import resolve_settings
from erasepro_convert.images.generate import Sampling, SeededPrompt, generate
from erasepro_convert.images.grid import to_image
from erasepro_convert.images.pipeline import load_pipeline
from erasepro_convert.recipe import Evaluate
from erasepro_convert.sd1.architecture import Sampler


class ErasePro:
    """Draws with any checkpoint that this package reads, as ``evaluate`` does.

    Prompts are numbered through all batches, and the number of a prompt is its seed: the command
    of eval-unlearn gives no seed, and its runners give every batch the same one.
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
        """Load the checkpoint; the parameters are the benchmark's ``technique.config``.

        ``erase_concept`` is not used here.  eval-unlearn reads it from the configuration, to name
        its reports and for metrics that are made for one concept.

        Raises CheckpointError for a file that makes no pictures, pydantic's ValidationError for an
        invalid setting; OSError passes through.
        """
        config = Evaluate(steps=steps, guidance=guidance, sampler=sampler, size=size)
        pipeline, architecture = load_pipeline(Path(checkpoint))
        settings = resolve_settings(config, architecture)
        self._pipeline = with_sampler(pipeline, settings.sampler)
        self._architecture = replace(architecture, size=settings.size)
        self._sampling = Sampling(settings.steps, settings.guidance)
        self._seed, self._drawn = seed, 0

    def generate(self, prompts: Sequence[str], seed: int | None = None) -> list[Image.Image]:
        """Draw one picture for each prompt.

        Where ``seed`` is given, it is the first prompt's seed, and the next prompts count on from
        it; else seeds are the numbers of the prompts.
        """
        first = self._seed + self._drawn if seed is None else seed
        self._drawn += len(prompts)
        jobs = [SeededPrompt(prompt, first + number) for number, prompt in enumerate(prompts)]
        if not jobs:
            return []
        with torch.inference_mode():
            made = generate(
                self._pipeline, self._architecture, jobs, self._sampling, lambda _: None
            )
        return [to_image(picture) for picture in made]
