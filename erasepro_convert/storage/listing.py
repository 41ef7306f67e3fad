"""List what exists: files in folders, objects in stores, matches of a pattern."""

import os
from glob import has_magic
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from erasepro_convert.storage.byte_ranges import HttpRangeReader
from erasepro_convert.storage.failures import translating_errors, with_retries
from erasepro_convert.storage.location import HTTP, Location, locate, url_scheme

if TYPE_CHECKING:
    from upath import UPath


def exists(location: Location) -> bool:
    """Whether a file, folder or object is there.  Raises StorageError where that is unknown."""
    if isinstance(location, Path):
        return os.path.lexists(location)
    with translating_errors(location):
        try:
            if url_scheme(location) in HTTP:
                with_retries(lambda: HttpRangeReader(location))
            else:
                location.fs.info(location.path)  # fsspec's exists() returns False on failures
        except FileNotFoundError:
            return False
        return True


def is_folder(location: Location) -> bool:
    """Whether ``location`` is a folder.  An http address never is: http cannot list folders."""
    if isinstance(location, Path):
        return location.is_dir()
    if url_scheme(location) in HTTP:
        return False
    with translating_errors(location):
        try:
            return bool(location.fs.info(location.path)["type"] == "directory")
        except FileNotFoundError:
            return False


def names_in(folder: Location) -> list[str]:
    """Return the sorted names of the files in a folder; empty where there is no folder."""
    if isinstance(folder, Path):
        return sorted(file.name for file in folder.glob("*") if file.exists())
    with translating_errors(folder):
        try:
            found = folder.fs.ls(folder.path, detail=True)
        except FileNotFoundError:
            return []
        return sorted(PurePosixPath(f["name"]).name for f in found if f["type"] == "file")


def files_below(folder: Location) -> set[str]:
    """Return the paths of all files below a folder, relative to it."""
    if isinstance(folder, Path):
        return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    with translating_errors(folder):
        root = PurePosixPath(folder.path)
        return {PurePosixPath(p).relative_to(root).as_posix() for p in folder.fs.find(folder.path)}


def is_pattern(location: Location) -> bool:
    """Whether a URL is a pattern with wildcards."""
    return url_scheme(location) not in HTTP and has_magic(str(location))


def matching(pattern: "UPath") -> "list[UPath]":
    """Return the objects that match a pattern, sorted."""
    with translating_errors(pattern):
        found = sorted(pattern.fs.glob(pattern.path))
    places = [locate(pattern.fs.unstrip_protocol(path)) for path in found]
    return [place for place in places if not isinstance(place, Path)]


def file_size(location: Location) -> int:
    """Return the bytes of a file or object.  Raises OSError or StorageError where there is none."""
    if isinstance(location, Path):
        return location.stat().st_size
    with translating_errors(location):
        return int(location.fs.info(location.path)["size"])
