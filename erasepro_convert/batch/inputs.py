"""Which checkpoints a batch is about: files, folders and patterns, made one list."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from erasepro_convert.errors import UsageError
from erasepro_convert.storage import (
    Location,
    files_below,
    fitting,
    is_folder,
    is_pattern,
    is_within,
    locate,
    shown,
)

if TYPE_CHECKING:
    from upath import UPath

MATCH = ("*.safetensors", "*.ckpt", "*.pt")
"""Names of checkpoint files, unless the user says otherwise."""
HERE = PurePosixPath()


@dataclass(frozen=True)
class Input:
    """A checkpoint, and the folder that it lies in below the one that was given."""

    path: Location
    below: PurePosixPath = HERE


def find_inputs(given: Iterable[str], match: Sequence[str], apart_from: Location) -> list[Input]:
    """Every checkpoint that is meant, once each, in a fixed order; ``given`` are paths and URLs.

    A folder stands for the files below it whose names ``match`` and for all diffusers models
    there, a pattern for what it fits.  Nothing in the folder ``apart_from`` is meant.
    Raises UsageError where there is nothing.
    """
    apart = os.path.realpath(apart_from) if isinstance(apart_from, Path) else ""
    found: dict[str, Input] = {}
    for text in given:
        location = locate(text)
        if isinstance(location, Path):
            here = list(_meant(text, match, apart))
        else:
            here = list(_meant_in_store(location, match, apart_from))
        if not here:
            place = shown(location)
            raise UsageError(f"{place}: there is no checkpoint there ({', '.join(match)})")
        for one in here:
            path = one.path
            found.setdefault(os.path.abspath(path) if isinstance(path, Path) else str(path), one)
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


def _meant_in_store(
    location: "UPath", match: Sequence[str], apart_from: Location
) -> Iterator[Input]:
    """The same of a URL: a store has no folders, only names that begin alike."""
    if is_pattern(location):
        for fits in fitting(location):
            yield from _meant_in_store(fits, match, apart_from)
        return
    if not is_folder(location) or is_folder(location / "unet"):
        yield Input(location)
        return
    names = sorted(map(PurePosixPath, files_below(location)))
    models = {name.parent.parent for name in names if name.parent.name == "unet"}
    for name in names:
        path = location / str(name)
        if any(model in name.parents for model in models) or is_within(path, apart_from):
            continue
        if any(fnmatch(name.name, pattern) for pattern in match):
            yield Input(path, name.parent)
    for model in sorted(models):
        yield Input(location / str(model), model.parent)


def _is_model(folder: Path) -> bool:
    """Whether it is a diffusers model, one checkpoint, rather than a folder of checkpoints."""
    return (folder / "unet").is_dir()
