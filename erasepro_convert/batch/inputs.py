"""Which checkpoints a batch is about: files, folders and patterns, made one list."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from erasepro_convert.errors import UsageError

MATCH = ("*.safetensors", "*.ckpt", "*.pt")
"""Names of checkpoint files, unless the user says otherwise."""
HERE = PurePosixPath()


@dataclass(frozen=True)
class Input:
    """A checkpoint, and the folder that it lies in below the one that was given."""

    path: Path
    below: PurePosixPath = HERE


def find_inputs(given: Iterable[str], match: Sequence[str], apart_from: Path) -> list[Input]:
    """Every checkpoint that is meant, once each, in a fixed order.

    A folder stands for the files below it whose names ``match`` and for all diffusers models
    there, a pattern for what it fits.  Nothing in the folder ``apart_from`` is meant.
    Raises UsageError where there is nothing.
    """
    found: dict[str, Input] = {}
    for text in given:
        here = list(_meant(text, match, os.path.realpath(apart_from)))
        if not here:
            raise UsageError(f"{text}: there is no checkpoint there ({', '.join(match)})")
        for one in here:
            found.setdefault(os.path.abspath(one.path), one)
    return list(found.values())


def _meant(text: str, match: Sequence[str], apart_from: str) -> Iterator[Input]:
    if not os.path.lexists(text) and glob.has_magic(text):
        for fitting in sorted(glob.glob(text, recursive=True)):
            yield from _meant(fitting, match, apart_from)
        return
    path = Path(text)
    if not path.is_dir() or _is_model(path):
        yield Input(path)  # what is not there is refused when its turn comes, by name
        return
    seen = {apart_from}
    for parent, folders, files in os.walk(path, followlinks=True):
        folder = Path(parent)
        if (real := os.path.realpath(folder)) in seen:  # a link can lead back up
            folders.clear()
            continue
        seen.add(real)
        models = sorted(name for name in folders if _is_model(folder / name))
        folders[:] = sorted(n for n in folders if n not in models and not n.startswith("."))
        below = PurePosixPath(folder.relative_to(path))
        for name in sorted(files):
            if any(fnmatch(name, pattern) for pattern in match) and not name.startswith("."):
                yield Input(folder / name, below)
        yield from (Input(folder / name, below) for name in models)


def _is_model(folder: Path) -> bool:
    """Whether it is a diffusers model, one checkpoint, rather than a folder of checkpoints."""
    return (folder / "unet").is_dir()
