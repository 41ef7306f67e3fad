"""The inputs of a batch: files, folders and patterns become one list of checkpoints."""

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
"""The default patterns for names of checkpoint files: those that ComfyUI and A1111 list."""
HERE = PurePosixPath()
"""The folder that was given, relative to itself."""
INDEX = "model_index.json"
HIDDEN, OUTPUTS, PART = "hidden", "output folder", "part of a diffusers folder"
UNREADABLE = "folder that cannot be read"
"""Reasons for passing something over."""


@dataclass(frozen=True)
class Input:
    """A checkpoint, and its folder relative to the folder that was given."""

    path: Location
    below: PurePosixPath = HERE


PassedOver = Mapping[str, Sequence[str]]
"""Paths that were found but are no inputs, by the reason."""


@dataclass(frozen=True)
class FoundInputs:
    """All checkpoints that were found, each once and in a fixed order, and what was passed over."""

    inputs: list[Input]
    passed_over: PassedOver


def find_inputs(given: Iterable[str], match: Sequence[str], output_folder: Location) -> FoundInputs:
    """Find the checkpoints that the paths and URLs in ``given`` stand for.

    A folder stands for the files below it whose names ``match``, in small or capital letters, and
    for all diffusers models there; a pattern stands for what it fits.  Both leave out hidden
    files, files in ``output_folder``, and parts of diffusers models.
    Raises UsageError for a path or URL that stands for no checkpoint.
    """
    search = _Search(match, output_folder)
    found: dict[str, Input] = {}
    for text in given:
        location = locate(text)
        inputs = list(search.resolve(text, location))
        if not inputs:
            passed = describe_passed_over(search.passed_over)
            raise UsageError(
                f"{redacted(location)}: there is no checkpoint there ({', '.join(match)})"
                + (f"; passed over: {passed}" if passed else "")
            )
        for item in inputs:
            path = item.path
            found.setdefault(os.path.abspath(path) if isinstance(path, Path) else str(path), item)
    return FoundInputs(
        list(found.values()), {reason: list(p) for reason, p in search.passed_over.items()}
    )


def find_checkpoints(folder: Path | str) -> tuple[Path, ...]:
    """Return the checkpoints below a local folder: files by their names, and diffusers folders.

    Hidden files and folders are left out, and so is what cannot be read.
    """
    search = _Search(MATCH, Path(os.devnull))
    return tuple(Path(str(item.path)) for item in search.resolve(str(folder), Path(folder)))


def describe_passed_over(passed_over: Mapping[str, Iterable[str]]) -> str:
    """Count what was passed over for each reason, the most frequent first."""
    counts = {reason: len(list(paths)) for reason, paths in passed_over.items()}
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {printable(reason)}" for reason, count in ordered)


class _Search:
    """Looks for checkpoints, and remembers what it passes over."""

    def __init__(self, match: Sequence[str], output_folder: Location) -> None:
        self._match = [pattern.lower() for pattern in match]
        self._output_folder = output_folder
        self.passed_over: dict[str, dict[str, None]] = {}

    def resolve(self, text: str, location: Location) -> Iterator[Input]:
        """Give all checkpoints that one path, URL or pattern stands for."""
        if isinstance(location, Path):
            if os.path.lexists(text) or not glob.has_magic(text):
                yield from self._at(location, is_folder=is_folder(location))
                return
            matches: Iterable[Location] = map(Path, sorted(glob.glob(text, recursive=True)))
        elif is_pattern(location):
            matches = matching(location)
        else:
            yield from self._at(location, is_folder=is_folder(location))
            return
        models: dict[Location, bool] = {}
        for path in matches:
            path_is_folder = is_folder(path)
            # A part of a diffusers model is a folder in it, or a file in such a folder.
            model = path.parent if path_is_folder else path.parent.parent
            if model not in models:
                models[model] = _is_model(model)
            if is_within(path, self._output_folder):
                self._pass_over(OUTPUTS, path)
            elif models[model]:
                self._pass_over(PART, path)
            else:
                yield from self._at(path, is_folder=path_is_folder)

    def _at(self, path: Location, *, is_folder: bool) -> Iterator[Input]:
        """Give the checkpoint at a path or URL, or all checkpoints below a folder."""
        if not is_folder:
            yield Input(path)  # a missing file is refused by its job, with its name
        elif isinstance(path, Path):
            yield from self._in_folder(path)
        else:
            yield from self._in_store(path)

    def _in_folder(self, top: Path) -> Iterator[Input]:
        """Give the checkpoints below a local folder, also by way of links."""

        def unreadable(error: OSError) -> None:
            self._pass_over(UNREADABLE, Path(error.filename))

        outputs = self._output_folder
        output_path = os.path.realpath(outputs) if isinstance(outputs, Path) else ""
        seen: set[str] = set()
        for parent, folders, files in os.walk(top, followlinks=True, onerror=unreadable):
            folder = Path(parent)
            real = os.path.realpath(folder)
            if real == output_path:
                self._pass_over(OUTPUTS, folder)
            if real == output_path or real in seen:  # a link can lead back up
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
        """Give the checkpoints below a URL; a store has no folders, only names with a prefix."""
        names = sorted(map(PurePosixPath, files_below(top)))
        found = {name.parent for name in names if name.name == INDEX}
        found |= {name.parent.parent for name in names if _is_weight(name.parent.name, name.name)}
        models = {model for model in found if not found & {*model.parents}}
        for name in names:
            if is_within(top / str(name), self._output_folder):
                self._pass_over(OUTPUTS, self._output_folder)
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
        """Give a file if its name is a checkpoint's, else pass it over.

        The repository of a diffusers model can have whole checkpoints beside the model's folders.
        Its other files belong to the model, and are not counted as passed over.
        """
        is_hidden = name.startswith(".")
        if not is_hidden and any(fnmatchcase(name.lower(), pattern) for pattern in self._match):
            yield Input(path, below)
        elif not beside_model:
            suffix = PurePosixPath(name).suffix.lower()
            self._pass_over(HIDDEN if is_hidden else f"*{suffix}" if suffix else "no suffix", path)

    def _pass_over(self, reason: str, path: Location) -> None:
        self.passed_over.setdefault(reason, {})[redacted(path)] = None


def _is_model(folder: Location) -> bool:
    """Whether a folder is a diffusers model, one checkpoint, rather than a folder of checkpoints.

    A folder ``unet`` in it is no proof: ComfyUI keeps U-Nets of many models in such a folder.
    """
    if not isinstance(folder, Path):
        names = names_in(folder / "unet")
        return INDEX in names_in(folder) or any(_is_weight("unet", name) for name in names)
    return os.path.isfile(folder / INDEX) or any(folder.glob(f"unet/{COMPONENTS['unet']}*"))


def _is_weight(folder: str, name: str) -> bool:
    """Whether a file of this name in a folder of this name holds a diffusers U-Net."""
    return folder == "unet" and name.startswith(COMPONENTS["unet"])
