"""Where outputs may go: never over anything that is read, and only where they can be written."""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from erasepro_convert.errors import UsageError
from erasepro_convert.storage.atomic import replacing
from erasepro_convert.storage.listing import exists
from erasepro_convert.storage.location import Location, redacted, url_scheme

LONGEST_NAME = 230
"""Bytes; what is written beside a target has a longer name, and file systems allow 255."""
ALIASES = {"s3a": "s3", "gcs": "gs"}
"""Schemes that are another name for a store."""

Key = tuple[int, int] | str
"""A device and an inode; or an address, of an object in a store or of what does not exist yet."""


class Inputs:
    """Files and folders that a command reads, known by what they are and not by their names.

    A file counts under every name that leads to it: links, hard links, another spelling, another
    mount.  A folder stands for all that lies in it, and for what its links lead to.
    """

    def __init__(self, places: "Iterable[Location | None]") -> None:
        """Look at what is there now; None is passed over."""
        self._files: dict[Key, str] = {}
        self._folders: dict[Key, str] = {}
        self._above: dict[Key, str] = {}
        seen: set[str] = set()
        for place in places:
            if place is None:
                continue
            name = redacted(place)
            self._files |= dict.fromkeys(_keys(place), name)
            if not isinstance(place, Path):
                self._folders[_address(place)] = name  # a store's folder is a beginning of names
                continue
            if place.is_dir():
                self._add_folder(place, name)
            for folder in _parents(place):
                if folder not in seen:
                    seen.add(folder)
                    self._above |= dict.fromkeys(_identity(folder), name)

    def _add_folder(self, top: Path, name: str) -> None:
        entered: set[Key] = set()
        for parent, folders, files in os.walk(top, followlinks=True):
            keys = set(_identity(parent))
            if keys <= entered:  # a link can lead back up
                folders.clear()
                continue
            entered |= keys
            self._folders |= dict.fromkeys(keys, name)
            for file in files:
                path = Path(parent, file)
                self._files |= dict.fromkeys(_keys(path), str(path))

    def require_apart(self, *written: Location) -> None:
        """Raise UsageError where writing one of these places would replace or change an input."""
        above: dict[str, list[Key]] = {}
        for place in written:
            for key in _keys(place):
                if key in self._files:
                    raise UsageError(
                        f"{redacted(place)}: this would replace {self._files[key]}, which is read; "
                        "give the output another name"
                    )
                if key in self._above:
                    raise UsageError(
                        f"{redacted(place)}: {self._above[key]} lies in it, which is read; "
                        "give the output another name"
                    )
            for folder in _parents(place):
                if folder not in above:
                    above[folder] = [folder, *_identity(folder)]
                for key in above[folder]:
                    if key in self._folders:
                        raise UsageError(
                            f"{redacted(place)}: this lies in {self._folders[key]}, which is read; "
                            "write it somewhere else"
                        )


def require_outputs(written: Iterable[Path], inputs: Inputs, *, force: bool) -> None:
    """Refuse, before any work, files that a command cannot or must not write.

    Raises UsageError for a place that is read or cannot be written to, for two outputs in one and,
    unless ``force`` replaces it, for a file that exists.
    """
    places = list(written)
    inputs.require_apart(*places)
    found: dict[str, Path] = {}
    for place in places:
        require_place(place)
        if os.path.realpath(place) in found:
            raise UsageError(f"{place}: two outputs cannot be one file")
        found[os.path.realpath(place)] = place
        require_absent(place, force=force)


def require_absent(place: Location, *, force: bool) -> None:
    """Raise UsageError for an output that exists, unless ``force`` replaces it.

    A link counts as a file, wherever it leads.
    """
    if not force and exists(place):
        raise UsageError(f"{redacted(place)}: exists already; --force replaces it")


def require_place(target: Path) -> None:
    """Raise UsageError for a file that could not be written, whatever its content."""
    require_parent(target)
    if target.is_dir():
        raise UsageError(f"{target}: this is a folder; give the output another name")
    if target.exists() and not target.is_file():
        raise UsageError(f"{target}: this is a {_kind(target)}; give the output another name")


def require_parent(target: Path) -> None:
    """Raise UsageError where no file or folder of this name could be made."""
    parent = target.parent
    if os.path.exists(parent) and not os.path.isdir(parent):
        raise UsageError(f"{target}: {parent} is a file, not a folder")
    if not os.path.isdir(parent):
        raise UsageError(f"{target}: its folder does not exist")
    if len(os.fsencode(target.name)) > LONGEST_NAME:
        raise UsageError(f"{target}: a name of more than {LONGEST_NAME} bytes")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"{parent}: not a folder that can be written to")


def is_caseless(file: Path) -> bool:
    """Whether an existing file's folder takes small and capital letters in a name for the same."""
    twin = file.with_name(file.name.swapcase())
    return twin.exists() and twin.samefile(file)


def put(target: Path, content: bytes, inputs: Inputs) -> None:
    """Write a small file, whole or not at all; what lay there is replaced and no link followed.

    Raises UsageError where it has come to be one of the inputs since they were looked at.
    """
    put_all({target: content}, inputs)


def put_all(contents: Mapping[Path, bytes], inputs: Inputs) -> None:
    """Write small files as ``put`` does, all of them or none."""
    inputs.require_apart(*contents)
    with replacing(*contents) as files:
        for file, content in zip(files, contents.values(), strict=True):
            file.write(content)


def _kind(path: Path) -> str:
    mode = path.stat().st_mode
    kinds = {stat.S_ISFIFO: "pipe", stat.S_ISSOCK: "socket"}
    return next((kind for test, kind in kinds.items() if test(mode)), "device")


def _keys(place: Location) -> Iterator[Key]:
    if not isinstance(place, Path):
        yield _address(place)
        return
    yield os.path.realpath(place)
    yield from _identity(place)


def _identity(path: str | Path) -> Iterator[Key]:
    with suppress(OSError):
        status = os.stat(path)
        yield status.st_dev, status.st_ino


def _parents(place: Location) -> Iterator[str]:
    """Give the folders above a place: as it is named, and where it really lies."""
    if not isinstance(place, Path):
        scheme, _, path = _address(place).partition("://")
        yield from (f"{scheme}://{parent}" for parent in PurePosixPath(path).parents)
        return
    real = Path(os.path.realpath(place))
    named = Path(os.path.realpath(place.parent), place.name)
    yield from dict.fromkeys(str(parent) for path in (named, real) for parent in path.parents)


def _address(location: Location) -> str:
    """Return one text for all ways to write a store's URL."""
    parts = urlsplit(redacted(location))
    scheme = url_scheme(location)
    return f"{ALIASES.get(scheme, scheme)}://{parts.netloc}{parts.path.rstrip('/')}"
