"""Which checkpoints a batch is about: files, folders and patterns, made one list."""

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from erasepro_convert.checkpoint.diffusers_folder import COMPONENTS
from erasepro_convert.errors import UsageError
from erasepro_convert.runtime.printable import printable
from erasepro_convert.storage.listing import files_below, is_folder, is_pattern, matching, names_in
from erasepro_convert.storage.location import Location, is_within, locate, redacted

if TYPE_CHECKING:
    from upath import UPath

MATCH = ("*.safetensors", "*.sft", "*.ckpt", "*.pt", "*.pth", "*.pt2", "*.bin", "*.pkl")
"""Names of checkpoint files, unless the user says otherwise: those that ComfyUI and A1111 list."""
HERE = PurePosixPath()
INDEX = "model_index.json"
HIDDEN, OUTPUTS, PART = "hidden", "output folder", "part of a diffusers folder"
UNREADABLE = "folder that cannot be read"


@dataclass(frozen=True)
class Input:
    """A checkpoint, and the folder that it lies in below the one that was given."""

    path: Location
    below: PurePosixPath = HERE


PassedOver = Mapping[str, Sequence[str]]
"""Paths that were found and are no inputs, by what they have in common."""


@dataclass(frozen=True)
class Found:
    """Every checkpoint that is meant, once each, in a fixed order; and what was passed over."""

    inputs: list[Input]
    passed_over: PassedOver


def find_inputs(given: Iterable[str], match: Sequence[str], apart_from: Location) -> Found:
    """Look up what is meant by ``given``, which are paths and URLs.

    A folder stands for the files below it whose names ``match``, in small or capital letters, and
    for all diffusers models there; a pattern for what it fits.  Of both, what lies in the folder
    ``apart_from`` or is hidden, and parts of diffusers models, are not meant.
    Raises UsageError where there is nothing.
    """
    search = _Search(match, apart_from)
    found: dict[str, Input] = {}
    for text in given:
        location = locate(text)
        here = list(search.meant(text, location))
        if not here:
            passed = described(search.passed_over)
            raise UsageError(
                f"{redacted(location)}: there is no checkpoint there ({', '.join(match)})"
                + (f"; passed over: {passed}" if passed else "")
            )
        for one in here:
            path = one.path
            found.setdefault(os.path.abspath(path) if isinstance(path, Path) else str(path), one)
    return Found(list(found.values()), {what: list(p) for what, p in search.passed_over.items()})


def described(passed_over: Mapping[str, Iterable[str]]) -> str:
    """How much was passed over of each kind, the most first."""
    counts = {what: len(list(paths)) for what, paths in passed_over.items()}
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {printable(what)}" for what, count in ordered)


class _Search:
    """Looks for checkpoints, and keeps in mind what it passes over."""

    def __init__(self, match: Sequence[str], apart_from: Location) -> None:
        self._match = [pattern.lower() for pattern in match]
        self._apart = apart_from
        self.passed_over: dict[str, dict[str, None]] = {}

    def meant(self, text: str, location: Location) -> Iterator[Input]:
        """All that one text means."""
        if isinstance(location, Path):
            if os.path.lexists(text) or not glob.has_magic(text):
                yield from self._at(location, is_folder=is_folder(location))
                return
            fits: Iterable[Location] = map(Path, sorted(glob.glob(text, recursive=True)))
        elif is_pattern(location):
            fits = matching(location)
        else:
            yield from self._at(location, is_folder=is_folder(location))
            return
        models: dict[Location, bool] = {}
        for path in fits:
            holds_files = is_folder(path)
            owner = path.parent if holds_files else path.parent.parent
            if owner not in models:
                models[owner] = _is_model(owner)
            if is_within(path, self._apart):
                self._pass_over(OUTPUTS, path)
            elif models[owner]:
                self._pass_over(PART, path)
            else:
                yield from self._at(path, is_folder=holds_files)

    def _at(self, path: Location, *, is_folder: bool) -> Iterator[Input]:
        if not is_folder:
            yield Input(path)  # what is not there is refused when its turn comes, by name
        elif isinstance(path, Path):
            yield from self._in_folder(path)
        else:
            yield from self._in_store(path)

    def _in_folder(self, top: Path) -> Iterator[Input]:
        def unreadable(error: OSError) -> None:
            self._pass_over(UNREADABLE, Path(error.filename))

        apart = os.path.realpath(self._apart) if isinstance(self._apart, Path) else ""
        seen: set[str] = set()
        for parent, folders, files in os.walk(top, followlinks=True, onerror=unreadable):
            folder = Path(parent)
            real = os.path.realpath(folder)
            if real == apart:
                self._pass_over(OUTPUTS, folder)
            if real == apart or real in seen:  # a link can lead back up
                folders.clear()
                continue
            seen.add(real)
            below = PurePosixPath(folder.relative_to(top))
            is_model = _is_model(folder)
            if is_model:
                yield Input(folder, below.parent)
                folders.clear()
            for name in (name for name in sorted(folders) if name.startswith(".")):
                self._pass_over(HIDDEN, folder / name)
                folders.remove(name)
            folders.sort(key=lambda name: (not _is_model(folder / name), name))
            for name in sorted(files):
                yield from self._file(folder / name, name, below, beside_model=is_model)

    def _in_store(self, top: "UPath") -> Iterator[Input]:
        """The same of a URL: a store has no folders, only names that begin alike."""
        names = sorted(map(PurePosixPath, files_below(top)))
        found = {name.parent for name in names if name.name == INDEX}
        found |= {name.parent.parent for name in names if _is_weight(name.parent.name, name.name)}
        models = {model for model in found if not found & {*model.parents}}
        for name in names:
            if is_within(top / str(name), self._apart):
                self._pass_over(OUTPUTS, self._apart)
            elif not models & {*name.parent.parents}:
                is_beside = name.parent in models
                yield from self._file(
                    top / str(name), name.name, name.parent, beside_model=is_beside
                )
        for model in sorted(models):
            yield Input(top if model == HERE else top / str(model), model.parent)

    def _file(
        self, path: Location, name: str, below: PurePosixPath, *, beside_model: bool
    ) -> Iterator[Input]:
        """A file in a folder: a checkpoint by its name, or passed over.

        A repository of a model can have whole checkpoints beside the parts; what else lies there
        belongs to the model.
        """
        is_hidden = name.startswith(".")
        if not is_hidden and any(fnmatchcase(name.lower(), pattern) for pattern in self._match):
            yield Input(path, below)
        elif not beside_model:
            suffix = PurePosixPath(name).suffix.lower()
            self._pass_over(HIDDEN if is_hidden else f"*{suffix}" if suffix else "no suffix", path)

    def _pass_over(self, what: str, path: Location) -> None:
        self.passed_over.setdefault(what, {})[redacted(path)] = None


def _is_model(folder: Location) -> bool:
    """Whether it is a diffusers model, one checkpoint, rather than a folder of checkpoints.

    A folder ``unet`` alone does not tell: ComfyUI keeps U-Nets of many models in one.
    """
    if not isinstance(folder, Path):
        names = names_in(folder / "unet")
        return INDEX in names_in(folder) or any(_is_weight("unet", name) for name in names)
    return os.path.isfile(folder / INDEX) or any(folder.glob(f"unet/{COMPONENTS['unet']}*"))


def _is_weight(folder: str, name: str) -> bool:
    return folder == "unet" and name.startswith(COMPONENTS["unet"])
