"""Pictures of both models: each is drawn once and named by a digest of what it was drawn from."""

import os
import secrets
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from erasepro_convert.errors import UsageError
from erasepro_convert.evaluate.plan import EvalPrompt, ImageRequest
from erasepro_convert.runtime.hashing import json_digest
from erasepro_convert.sd1.architecture import Sampler

ModelName = Literal["original", "erased"]
MODELS: tuple[ModelName, ...] = ("original", "erased")
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Settings:
    """How a picture is drawn, apart from its prompt and seed; ``size`` is in pixels."""

    steps: int
    guidance: float
    size: int
    sampler: Sampler


@dataclass(frozen=True)
class Pictures:
    """Pictures by one model, each with its prompt and its file; ordered by prompt, then seed."""

    prompts: tuple[EvalPrompt, ...]
    paths: tuple[Path, ...]

    @property
    def prompt_texts(self) -> list[str]:
        """The text of each picture's prompt."""
        return [prompt.prompt for prompt in self.prompts]

    def of_concepts(self, concepts: Container[str]) -> "Pictures":
        """Select the pictures whose prompts belong to some concepts."""
        return self._select([i for i, p in enumerate(self.prompts) if p.concept in concepts])

    def without_repeats(self) -> "Pictures":
        """Select each file once, since several concepts may share a picture."""
        firsts = {path: i for i, path in reversed([*enumerate(self.paths)])}
        return self._select(sorted(firsts.values()))

    def first_of_prompt(self, prompt: str, limit: int) -> "Pictures":
        """Select the first pictures of one prompt, ``limit`` at most."""
        return self._select([i for i, t in enumerate(self.prompt_texts) if t == prompt][:limit])

    def pixels(self) -> Pixels:
        """Load all pictures as one array (n, size, size, 3)."""
        return load_pixels(self.paths)

    def by_prompt(self, values: Sequence[float]) -> dict[str, list[float]]:
        """Group values, one for each picture, by the text of the prompt."""
        by_prompt: dict[str, list[float]] = {}
        for prompt, value in zip(self.prompt_texts, values, strict=True):
            by_prompt.setdefault(prompt, []).append(value)
        return by_prompt

    def _select(self, numbers: Sequence[int]) -> "Pictures":
        return Pictures(
            tuple(self.prompts[i] for i in numbers), tuple(self.paths[i] for i in numbers)
        )


class ImageStore:
    """A folder of pictures; several runs may add to it at once, and a later run continues it."""

    def __init__(self, folder: Path) -> None:
        """Create the folder if it does not exist."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def path(self, model_digest: str, request: ImageRequest, settings: Settings) -> Path:
        """Return where the picture lies that the model with this digest draws."""
        used = replace(settings, guidance=request.guidance)
        key = [model_digest, request.prompt, request.seed, *vars(used).values()]
        return self._folder / f"{json_digest(key)[:40]}.png"

    def add(self, path: Path, picture: Tensor) -> None:
        """Write a (3, size, size) uint8 picture to ``path``, whole or not at all."""
        part = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part")
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(part, "png")
        os.replace(part, path)


def load_image(path: Path) -> Image.Image:
    """Load a picture in RGB.  Raises UsageError where the file holds none."""
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError) as error:  # a SyntaxError is what Pillow has for a broken PNG
        raise unreadable_error(path) from error


def unreadable_error(path: Path) -> UsageError:
    """Return the error for a file that holds no picture."""
    return UsageError(f"{path}: not a picture; delete it, and it is drawn anew")


def load_pixels(paths: Iterable[Path]) -> Pixels:
    """Load pictures of one size as an array (n, size, size, 3).

    Raises UsageError for a file that holds no picture.
    """
    return np.stack([np.asarray(load_image(path)) for path in paths])
