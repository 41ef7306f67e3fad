"""Pictures of sittings, each made once and kept in the album of evaluations."""

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from threading import Lock

import torch
from diffusers import StableDiffusionPipeline

from erasepro_convert.architecture import Architecture
from erasepro_convert.evaluate.pictures import Album, Settings
from erasepro_convert.images.generate import Job, Sampling, generate
from erasepro_convert.stress.model import Ready, Sitting, Subject
from erasepro_convert.threads import side_by_side

APART = 4
"""Parts of a batch of a small model, which are drawn side by side."""

Key = tuple[str, int]
"""Prompt and seed."""


class Studio:
    """Draws with settings; ``progress`` gets what is at work and denoising steps of it."""

    def __init__(
        self,
        architecture: Architecture,
        settings: Settings,
        seeds: int,
        album: Album,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self._architecture = replace(architecture, size=settings.size)
        self._settings = settings
        self.seeds = seeds
        self._album = album
        self._progress = progress

    def paths(self, sitting: Sitting) -> dict[str, list[Path]]:
        """Where the pictures of a sitting lie, by the prompts that it was made from."""
        return {
            owner: [self._path(sitting.subject, (prompt, seed)) for seed in range(self.seeds)]
            for owner, prompt in sitting.prompts.items()
        }

    def draw(self, sittings: Iterable[Sitting]) -> None:
        """Make what is missing, subject by subject in the order of their first sitting."""
        missing: dict[str, dict[Key, Path]] = {}
        subjects: dict[str, Subject] = {}
        for sitting in sittings:
            subject = subjects.setdefault(sitting.subject.identity, sitting.subject)
            wanted = missing.setdefault(subject.identity, {})
            for prompt in sitting.prompts.values():
                for seed in range(self.seeds):
                    if not (path := self._path(subject, (prompt, seed))).exists():
                        wanted[prompt, seed] = path
        each = self._settings.steps
        total = sum(
            subjects[name].effort + len(wanted) * each for name, wanted in missing.items() if wanted
        )
        done, lock = 0, Lock()

        def advance(steps: int) -> None:
            nonlocal done
            with lock:
                done += steps
                # the sampler may take a step more than asked
                self._progress("drawing", done, max(done, total))

        for name, wanted in missing.items():
            if wanted:
                with subjects[name].ready(advance) as ready:
                    self._draw(ready, wanted, advance)

    def _path(self, subject: Subject, key: Key) -> Path:
        return self._album.path(subject.identity, *key, self._settings)

    def _draw(self, ready: Ready, wanted: dict[Key, Path], advance: Callable[[int], None]) -> None:
        sampling = Sampling(self._settings.steps, self._settings.guidance)
        together = self._architecture.batch
        # Threads that share a small model's sums mostly wait for each other: each draws by itself.
        apart = together > 1 and ready.pipeline.device.type == "cpu"
        if apart:
            together //= APART

        def draw(keys: list[Key]) -> None:
            jobs = [Job(prompt, seed) for prompt, seed in keys]
            pipeline = _own_scheduler(ready.pipeline)
            made = generate(pipeline, self._architecture, jobs, sampling, advance, ready.embed)
            for key, picture in zip(keys, made, strict=True):
                self._album.add(wanted[key], picture)

        every = list(wanted)
        parts = [every[start : start + together] for start in range(0, len(every), together)]
        if apart:
            side_by_side(draw, parts)
            return
        with torch.inference_mode():
            for part in parts:
                draw(part)


def _own_scheduler(pipeline: StableDiffusionPipeline) -> StableDiffusionPipeline:
    """The same models with a scheduler of one's own, which counts its steps."""
    own = {**pipeline.components, "scheduler": deepcopy(pipeline.scheduler)}
    copied = StableDiffusionPipeline(**own, requires_safety_checker=False)
    copied.set_progress_bar_config(disable=True)
    return copied
