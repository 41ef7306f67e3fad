"""Pictures of sittings, each made once and kept in the album of evaluations."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch

from erasepro_convert.architecture import Architecture
from erasepro_convert.evaluate.pictures import Album, Settings
from erasepro_convert.images.generate import Job, Sampling, generate
from erasepro_convert.stress.model import Ready, Sitting, Subject

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
        done = 0

        def advance(steps: int) -> None:
            nonlocal done
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
        keys, batch = list(wanted), self._architecture.batch
        sampling = Sampling(self._settings.steps, self._settings.guidance)
        for start in range(0, len(keys), batch):
            part = keys[start : start + batch]
            jobs = [Job(prompt, seed) for prompt, seed in part]
            with torch.inference_mode():
                made = generate(
                    ready.pipeline, self._architecture, jobs, sampling, advance, ready.embed
                )
            for key, picture in zip(part, made, strict=True):
                self._album.add(wanted[key], picture)
