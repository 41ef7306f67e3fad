"""Where files are: local paths, or URLs of objects in a store (s3://, gs://, https://, …).

Objects are reached through fsspec.  Credentials and endpoints come from where its libraries look
for them: the environment and their own configuration.  A URL can carry secrets too, as user, query
or fragment.  Messages and records therefore hold ``redacted(location)`` or its ``file_name``.
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
"""A local path, or the URL of an object."""

INSTALL_COMMAND = "pip install 'erasepro-convert[s3]'"
HTTP, S3 = ("http", "https"), ("s3", "s3a")
WRITABLE = (*S3, "gs", "gcs")
"""Stores in which an upload is invisible until it is complete, and can be discarded."""

ADVICE = "download the file first, or give its s3://, gs:// or https:// address"
"""What to do about an address that cannot be read."""

TRIES = 5
"""How often a request is made before its failure is final."""

CONNECT_TIMEOUT, READ_TIMEOUT = 10, 30
"""Seconds to wait for a connection, and for the next bytes."""

SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)

CHECKPOINT_SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin")
"""Suffixes of checkpoint files; anything else that follows a dot belongs to the name."""


def locate(place: "Location | str") -> Location:
    """Turn a path or URL that a user typed into a location; a location stays as it is.

    Raises UsageError for a scheme that is unknown or lacks its library.
    """
    if not isinstance(place, str):
        return place
    text = place
    matched = SCHEME.match(text)
    if not matched:
        return Path(text)
    scheme = matched[1].lower()
    if scheme in ("file", "local"):
        return Path(url2pathname(urlsplit(text).path))
    try:
        import fsspec
        from upath import UPath

        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        missing = (
            INSTALL_COMMAND
            if scheme in (*HTTP, *S3)
            else f"{INSTALL_COMMAND}, and the library of {scheme}://"
        )
        raise UsageError(f"{_redact_url(text)}: needs more libraries: {missing}") from error
    except ValueError as error:
        raise UsageError(f"{_redact_url(text)}: {scheme}:// is not known; {ADVICE}") from error
    try:
        location: UPath = UPath(scheme + text[len(scheme) :], **client_options(scheme))
    except Exception as error:  # some of fsspec's stores need more than an address
        raise UsageError(f"{_redact_url(text)}: {unsupported_reason(scheme, error)}") from None
    if scheme in S3:
        location.fs.retries = 1  # otherwise two libraries would retry each request
    return location


def client_options(scheme: str, *, retries: bool = True) -> dict[str, Any]:
    """Return options for a store's client, beside what the user configured.

    Without ``retries`` the client makes each request once, and the caller retries.
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
    # Listings are not cached, since the current content counts.
    return {"config_kwargs": config, "use_listings_cache": False}


def url_scheme(location: Location) -> str:
    """Return the scheme of a URL in lower case; empty for a path."""
    return "" if isinstance(location, Path) else str(location.protocol)


def redacted(location: Location) -> str:
    """Return a location as messages and records may show it: without user, query and fragment."""
    return str(location) if isinstance(location, Path) else _redact_url(str(location))


def _redact_url(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def file_name(location: Location) -> str:
    """Return the last part of a location, decoded."""
    if isinstance(location, Path):
        return location.name
    path = urlsplit(str(location)).path.rstrip("/")
    return PurePosixPath(unquote(path) if url_scheme(location) in HTTP else path).name


def checkpoint_stem(name: str) -> str:
    """Return a checkpoint's name without its file suffix; a folder's name stays as it is."""
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in CHECKPOINT_SUFFIXES else name


@overload
def sibling(checkpoint: Path, ending: str) -> Path: ...
@overload
def sibling(checkpoint: "UPath", ending: str) -> "UPath": ...
def sibling(checkpoint: Location, ending: str) -> Location:
    """Return the location beside a checkpoint (file or folder) with its stem and another ending."""
    if isinstance(checkpoint, Path):
        named = checkpoint if checkpoint.name not in ("", "..") else checkpoint.resolve()
        return named.with_name(checkpoint_stem(named.name) + ending)
    if url_scheme(checkpoint) not in HTTP:
        return checkpoint.with_name(checkpoint_stem(checkpoint.name) + ending)
    parts = urlsplit(str(checkpoint))  # without the query, which is valid for one object
    path = PurePosixPath(parts.path)
    path = path.with_name(checkpoint_stem(path.name) + ending)
    return locate(urlunsplit((parts.scheme, parts.netloc, str(path), "", "")))


def absolute(location: Location) -> Location:
    """Return a path as an absolute one, which holds in any working folder; a URL as it is."""
    return location.absolute() if isinstance(location, Path) else location


def is_within(location: Location, folder: Location) -> bool:
    """Whether a location is ``folder`` or lies below it, also by way of links or ``..``."""
    if isinstance(location, Path) and isinstance(folder, Path):
        return location.resolve().is_relative_to(folder.resolve())
    parent = redacted(folder).rstrip("/")
    is_below = redacted(location) == parent or redacted(location).startswith(f"{parent}/")
    return is_below and ".." not in redacted(location).split("/")


def unsupported_reason(scheme: str, error: Exception) -> str:
    """Return why an address in an unsupported store is not read, and what to give in its place."""
    if isinstance(error, ImportError) and error.name:
        why = f"{scheme}:// needs the library {error.name}, which is not installed"
    else:
        why = f"{scheme}:// cannot be read from this address alone ({type(error).__name__})"
    return f"{why}; {ADVICE}"
