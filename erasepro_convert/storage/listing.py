"""What there is: in a folder, in a store, under a pattern."""

import os
from glob import has_magic
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from erasepro_convert.storage.byte_ranges import HttpRanges
from erasepro_convert.storage.failures import translating_errors, with_retries
from erasepro_convert.storage.location import HTTP, Location, locate, scheme_of

if TYPE_CHECKING:
    from upath import UPath


def exists(location: Location) -> bool:
    """Whether there is anything.  Raises StorageError where that cannot be told."""
    if isinstance(location, Path):
        return os.path.lexists(location)
    with translating_errors(location):
        try:
            if scheme_of(location) in HTTP:
                with_retries(lambda: HttpRanges(location))
            else:
                location.fs.info(location.path)  # fsspec's own question takes failures for a no
        except FileNotFoundError:
            return False
        return True


def is_folder(location: Location) -> bool:
    """Whether it holds files.  What http serves is never taken for a folder: it cannot list one."""
    if isinstance(location, Path):
        return location.is_dir()
    if scheme_of(location) in HTTP:
        return False
    with translating_errors(location):
        try:
            return bool(location.fs.info(location.path)["type"] == "directory")
        except FileNotFoundError:
            return False


def names_in(folder: Location) -> list[str]:
    """Names of the files in a folder, sorted; none where there is no folder."""
    if isinstance(folder, Path):
        return sorted(file.name for file in folder.glob("*") if file.exists())
    with translating_errors(folder):
        try:
            found = folder.fs.ls(folder.path, detail=True)
        except FileNotFoundError:
            return []
        return sorted(PurePosixPath(f["name"]).name for f in found if f["type"] == "file")


def files_below(folder: Location) -> set[str]:
    """The files in a folder and in those in it, by their paths from there."""
    if isinstance(folder, Path):
        return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    with translating_errors(folder):
        root = PurePosixPath(folder.path)
        return {PurePosixPath(p).relative_to(root).as_posix() for p in folder.fs.find(folder.path)}


def is_pattern(location: Location) -> bool:
    """Whether a URL stands for all that it fits."""
    return scheme_of(location) not in HTTP and has_magic(str(location))


def fitting(pattern: "UPath") -> "list[UPath]":
    """What a pattern fits, sorted."""
    with translating_errors(pattern):
        found = sorted(pattern.fs.glob(pattern.path))
    places = [locate(pattern.fs.unstrip_protocol(path)) for path in found]
    return [place for place in places if not isinstance(place, Path)]


def size_of(location: Location) -> int:
    """Bytes of a file or an object.  Raises OSError or StorageError where there is none."""
    if isinstance(location, Path):
        return location.stat().st_size
    with translating_errors(location):
        return int(location.fs.info(location.path)["size"])
