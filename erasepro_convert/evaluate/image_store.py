"""Pictures of both models, each made once and kept under what it was made from."""

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

from erasepro_convert.checkpoint import open_checkpoint
from erasepro_convert.errors import UsageError
from erasepro_convert.evaluate.plan import EvalPrompt, ImageRequest
from erasepro_convert.runtime.hashing import files_digest, json_digest
from erasepro_convert.sd1.architecture import Sampler

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
    """Pictures by one model: what each was asked for, and its file; prompts first, then seeds."""

    asked: tuple[EvalPrompt, ...]
    paths: tuple[Path, ...]

    @property
    def owners(self) -> list[str]:
        """The prompt of each picture."""
        return [asked.prompt for asked in self.asked]

    def only(self, concepts: Container[str]) -> "Pictures":
        """Those of prompts of some concepts."""
        return self._of([i for i, asked in enumerate(self.asked) if asked.concept in concepts])

    def once(self) -> "Pictures":
        """Each picture once, where several concepts have the same."""
        firsts = {path: i for i, path in reversed([*enumerate(self.paths)])}
        return self._of(sorted(firsts.values()))

    def of_prompt(self, prompt: str, most: int) -> "Pictures":
        """The first few of one prompt."""
        return self._of([i for i, owner in enumerate(self.owners) if owner == prompt][:most])

    def pixels(self) -> Pixels:
        """(n, size, size, 3)."""
        return pixels_of(self.paths)

    def by_prompt(self, values: Sequence[float]) -> dict[str, list[float]]:
        """One value a picture, as those of each prompt."""
        found: dict[str, list[float]] = {}
        for prompt, value in zip(self.owners, values, strict=True):
            found.setdefault(prompt, []).append(value)
        return found

    def _of(self, chosen: Sequence[int]) -> "Pictures":
        return Pictures(tuple(self.asked[i] for i in chosen), tuple(self.paths[i] for i in chosen))


class ImageStore:
    """A folder of pictures; several runs may fill it at once, and go on where others ended."""

    def __init__(self, folder: Path) -> None:
        """Create it where there is none."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def path(self, maker: str, shot: ImageRequest, settings: Settings) -> Path:
        """Where the picture lies that a checkpoint of this digest makes."""
        how = replace(settings, guidance=shot.guidance)
        key = [maker, shot.prompt, shot.seed, *vars(how).values()]
        return self._folder / f"{json_digest(key)[:40]}.png"

    def add(self, path: Path, picture: Tensor) -> None:
        """Put a (3, size, size) uint8 picture there, whole or not at all."""
        part = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part")
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(part, "png")
        os.replace(part, path)


def digest_of(path: Path) -> str:
    """One SHA-256 of a checkpoint's files."""
    return files_digest([file.hashes().sha256 for file in open_checkpoint(path).files])


def opened(path: Path) -> Image.Image:
    """The picture, in RGB.  Raises UsageError where the file holds none."""
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError) as error:  # a SyntaxError is what Pillow has for a broken PNG
        raise unreadable(path) from error


def unreadable(path: Path) -> UsageError:
    """What to say of a file that holds no picture."""
    return UsageError(f"{path}: not a picture; delete it, and it is drawn anew")


def pixels_of(paths: Iterable[Path]) -> Pixels:
    """(n, size, size, 3), of pictures of one size.  Raises UsageError where one is none."""
    return np.stack([np.asarray(opened(path)) for path in paths])
