"""Where files are: paths here, or URLs of objects in a store (s3://, gs://, https://, …).

Objects are reached through fsspec; credentials and endpoints come from where its libraries look
for them (environment, their configuration).  A URL can carry secrets too: user, query, fragment.
Messages and records therefore have ``shown`` or ``name_of`` of it.
"""

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias, overload
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

from erasepro_convert.errors import UsageError

if TYPE_CHECKING:
    from upath import UPath

Location: TypeAlias = "Path | UPath"

EXTRA = "pip install 'erasepro-convert[s3]'"
HTTP, S3 = ("http", "https"), ("s3", "s3a")
WRITABLE = (*S3, "gs", "gcs")
"""Stores in which an upload shows nothing before it is complete, and can be given up."""

INSTEAD = "download the file first, or give its s3://, gs:// or https:// address"

TRIES = 5
"""How often a request is made before its failure is believed."""

CONNECT_TIMEOUT, READ_TIMEOUT = 10, 30
"""Seconds: to be connected, and for the next bytes to come."""

SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)

CHECKPOINTS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin")
"""Suffixes of files that hold a checkpoint; whatever else follows a dot belongs to the name."""


def locate(place: "Location | str") -> Location:
    """The place that a user means by a path or a URL; a location stays as it is.

    Raises UsageError for a scheme that is unknown or lacks its library.
    """
    if not isinstance(place, str):
        return place
    text = place
    found = SCHEME.match(text)
    if not found:
        return Path(text)
    scheme = found[1].lower()
    if scheme in ("file", "local"):
        return Path(url2pathname(urlsplit(text).path))
    try:
        import fsspec
        from upath import UPath

        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        need = EXTRA if scheme in (*HTTP, *S3) else f"{EXTRA}, and the library of {scheme}://"
        raise UsageError(f"{_shown(text)}: needs more libraries: {need}") from error
    except ValueError as error:
        raise UsageError(f"{_shown(text)}: {scheme}:// is not known; {INSTEAD}") from error
    try:
        location: UPath = UPath(scheme + text[len(scheme) :], **client_options(scheme))
    except Exception as error:  # some that fsspec knows need more than an address
        raise UsageError(f"{_shown(text)}: {unread_reason(scheme, error)}") from None
    if scheme in S3:
        location.fs.retries = 1  # or each request would be retried by two libraries
    return location


def client_options(scheme: str, *, retries: bool = True) -> dict[str, Any]:
    """How a store's client is to behave, beside what the user configured; all of it is here.

    Without ``retries`` each request is made once: the caller tries again.
    """
    if scheme not in S3:
        return {}
    import fsspec

    config = {
        "connect_timeout": CONNECT_TIMEOUT,
        "read_timeout": READ_TIMEOUT,
        **fsspec.config.conf.get("s3", {}).get("config_kwargs", {}),
        "retries": {"mode": "standard", "total_max_attempts": TRIES if retries else 1},
    }
    # Listings are not kept: what is there now counts.
    return {"config_kwargs": config, "use_listings_cache": False}


def scheme_of(location: Location) -> str:
    """The scheme of a URL in small letters; nothing for a path."""
    return "" if isinstance(location, Path) else str(location.protocol)


def redacted(location: Location) -> str:
    """A location as messages and records may have it: without user, query and fragment."""
    return str(location) if isinstance(location, Path) else _shown(str(location))


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def name_of(location: Location) -> str:
    """The file's own name."""
    if isinstance(location, Path):
        return location.name
    path = urlsplit(str(location)).path.rstrip("/")
    return PurePosixPath(unquote(path) if scheme_of(location) in HTTP else path).name


def stem_of(name: str) -> str:
    """A checkpoint's name without its file suffix; a folder's name is whole, dots and all."""
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in CHECKPOINTS else name


@overload
def beside(checkpoint: Path, ending: str) -> Path: ...
@overload
def beside(checkpoint: "UPath", ending: str) -> "UPath": ...
def beside(checkpoint: Location, ending: str) -> Location:
    """What lies beside a checkpoint, file or folder, under its stem and another ending."""
    if isinstance(checkpoint, Path):
        named = checkpoint if checkpoint.name not in ("", "..") else checkpoint.resolve()
        return named.with_name(stem_of(named.name) + ending)
    if scheme_of(checkpoint) not in HTTP:
        return checkpoint.with_name(stem_of(checkpoint.name) + ending)
    parts = urlsplit(str(checkpoint))  # a query is for one object alone
    path = PurePosixPath(parts.path)
    path = path.with_name(stem_of(path.name) + ending)
    return locate(urlunsplit((parts.scheme, parts.netloc, str(path), "", "")))


def absolute(location: Location) -> Location:
    """The same, wherever it is looked at from."""
    return location.absolute() if isinstance(location, Path) else location


def is_within(location: Location, folder: Location) -> bool:
    """Whether a place is in a folder, or the folder itself, however its path goes."""
    if isinstance(location, Path) and isinstance(folder, Path):
        return location.resolve().is_relative_to(folder.resolve())
    above = redacted(folder).rstrip("/")
    inside = redacted(location) == above or redacted(location).startswith(f"{above}/")
    return inside and ".." not in redacted(location).split("/")


def unread_reason(scheme: str, error: Exception) -> str:
    """Why an address of another store is not read, and what to give instead."""
    if isinstance(error, ImportError) and error.name:
        why = f"{scheme}:// needs the library {error.name}, which is not installed"
    else:
        why = f"{scheme}:// cannot be read from this address alone ({type(error).__name__})"
    return f"{why}; {INSTEAD}"
