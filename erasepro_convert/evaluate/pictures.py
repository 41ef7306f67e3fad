"""Pictures of both models, each made once and kept under what it was made from."""

import os
import secrets
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from diffusers import DDPMScheduler
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from erasepro_convert.architecture import Sampler
from erasepro_convert.checkpoint import open_checkpoint
from erasepro_convert.digest import of_json
from erasepro_convert.evaluate.plan import Asked
from erasepro_convert.images.generate import Job, Sampling, generate
from erasepro_convert.images.pipeline import load_pipeline

Model = Literal["original", "erased"]
MODELS: tuple[Model, ...] = ("original", "erased")
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Settings:
    """How a picture is made, beside its prompt and seed; ``size`` in pixels."""

    steps: int
    guidance: float
    size: int
    sampler: Sampler


@dataclass(frozen=True)
class Pictures:
    """Pictures of some prompts by one model: a file for each prompt and seed, prompts first."""

    prompts: tuple[Asked, ...]
    seeds: int
    paths: tuple[Path, ...]

    @property
    def owners(self) -> list[str]:
        """The prompt of each picture."""
        return [asked.prompt for asked in self.prompts for _ in range(self.seeds)]

    def only(self, concepts: Container[str]) -> "Pictures":
        """Those of prompts of some concepts."""
        return self._of([i for i, asked in enumerate(self.prompts) if asked.concept in concepts])

    def once(self) -> "Pictures":
        """Those of each prompt once, where several concepts have the same."""
        rows = list({asked.prompt: i for i, asked in reversed([*enumerate(self.prompts)])}.values())
        return self._of(sorted(rows))

    def of_prompt(self, prompt: str, most: int) -> "Pictures":
        """The first few of one prompt."""
        i = self.owners.index(prompt)
        seeds = min(most, self.seeds)
        return Pictures((self.prompts[i // self.seeds],), seeds, self.paths[i : i + seeds])

    def pixels(self) -> Pixels:
        """(n, size, size, 3)."""
        return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in self.paths])

    def by_prompt(self, values: Sequence[float]) -> dict[str, list[float]]:
        """One value a picture, as those of each prompt."""
        found: dict[str, list[float]] = {}
        for prompt, value in zip(self.owners, values, strict=True):
            found.setdefault(prompt, []).append(value)
        return found

    def _of(self, chosen: Sequence[int]) -> "Pictures":
        """Those of some of the prompts."""
        paths = [self.paths[i * self.seeds + seed] for i in chosen for seed in range(self.seeds)]
        return Pictures(tuple(self.prompts[i] for i in chosen), self.seeds, tuple(paths))


class Album:
    """A folder of pictures; several runs may fill it at once, and go on where others ended."""

    def __init__(self, folder: Path) -> None:
        """Create it where there is none."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def path(self, checkpoint: str, prompt: str, seed: int, settings: Settings) -> Path:
        """Where the picture lies that a checkpoint of this digest makes."""
        key = [checkpoint, prompt, seed, *vars(settings).values()]
        return self._folder / f"{of_json(key)[:40]}.png"

    def add(self, path: Path, picture: Tensor) -> None:
        """Put a (3, size, size) uint8 picture there, whole or not at all."""
        part = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part")
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(part, "png")
        os.replace(part, path)


def digest_of(path: Path) -> str:
    """One SHA-256 of a checkpoint's files."""
    digests = [file.hashes().sha256 for file in open_checkpoint(path).files]
    return digests[0] if len(digests) == 1 else of_json(digests)


def draw(
    checkpoint: Path,
    digest: str,
    prompts: Iterable[str],
    seeds: int,
    album: Album,
    settings: Settings,
    progress: Callable[[int, int], None],
) -> Mapping[tuple[str, int], Path]:
    """Make what is missing of each prompt with each seed; ``progress`` gets denoising steps.

    What is missing is drawn beside what was drawn beside it the first time: its sums are then the
    same to the last bit.

    Raises CheckpointError for a file that makes no pictures.
    """
    wanted = {
        (prompt, seed): album.path(digest, prompt, seed, settings)
        for prompt in dict.fromkeys(prompts)
        for seed in range(seeds)
    }
    if all(path.exists() for path in wanted.values()):
        return wanted
    pipeline, architecture = load_pipeline(checkpoint)
    architecture = replace(architecture, size=settings.size)
    if settings.sampler == "ddpm":
        pipeline.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    pipeline.scheduler.set_timesteps(settings.steps)
    each, done = len(pipeline.scheduler.timesteps), 0
    keys = list(wanted)
    batches = [keys[i : i + architecture.batch] for i in range(0, len(keys), architecture.batch)]
    batches = [b for b in batches if not all(wanted[key].exists() for key in b)]
    total = each * sum(map(len, batches))

    def advance(steps: int) -> None:
        nonlocal done
        done += steps
        progress(done, total)

    sampling = Sampling(settings.steps, settings.guidance)
    for batch in batches:
        jobs = [Job(prompt, seed) for prompt, seed in batch]
        with torch.inference_mode():
            made = generate(pipeline, architecture, jobs, sampling, advance)
        for key, picture in zip(batch, made, strict=True):
            if not wanted[key].exists():
                album.add(wanted[key], picture)
    return wanted
