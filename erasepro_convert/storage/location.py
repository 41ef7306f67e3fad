"""Places of files: paths here, or URLs of objects in a store (s3://, gs://, https://, …).

Objects are reached through fsspec; credentials and endpoints come from where its libraries look
for them (environment, their configuration).  A URL can carry secrets too: user, query, fragment.
Messages and records have ``shown`` or ``name_of`` of it, and what a store's library says is put
into words of our own, since its words can quote the URL.
"""

import errno
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import has_magic
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from threading import Event
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

from erasepro_convert.errors import EraseproError, StorageError, UsageError

if TYPE_CHECKING:
    from upath import UPath

Location: TypeAlias = "Path | UPath"

EXTRA = "pip install 'erasepro-convert[s3]'"
HTTP, S3 = ("http", "https"), ("s3", "s3a")
WRITABLE = (*S3, "gs", "gcs")
"""Stores in which an upload shows nothing before it is complete, and can be given up."""

INSTEAD = "download the file first, or give its s3://, gs:// or https:// address"

TRIES = 5
FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0
CONNECT_TIMEOUT, READ_TIMEOUT = 10, 30
"""Seconds: to be connected, and for the next bytes to come."""

WAIT_AND_SEE = (408, 425, 429)
"""What a server says, beside its own failures (5xx), that may be otherwise in a moment."""

PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
PASSING = {
    "ClientError",  # aiohttp: no connection, a broken one
    "TransportError",  # httpx: the same
    "ConnectionError",  # botocore: the same
    "HTTPClientError",
    "IncompleteReadError",
    "ResponseParserError",
}
"""Errors of libraries, by the names of their classes: not all of them are installed."""

SPOKEN = {
    "NoCredentialsError": "no credentials were found",
    "ParamValidationError": "this is no address of an object",
}
"""What to say of botocore's errors, by the names of their classes."""

SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)

CHECKPOINTS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin")
"""Suffixes of files that hold a checkpoint; whatever else follows a dot belongs to the name."""

Result = TypeVar("Result")


def locate(text: str) -> Location:
    """The place that a user means.

    Raises UsageError for a scheme that is unknown or lacks its library.
    """
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
        raise UsageError(f"{_shown(text)}: {_unread(scheme, error)}") from None
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


def shown(location: Location) -> str:
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


def is_folder(location: Location) -> bool:
    """Whether it holds files.  What http serves is never taken for a folder: it cannot list one."""
    if isinstance(location, Path):
        return location.is_dir()
    if scheme_of(location) in HTTP:
        return False
    with asking(location):
        try:
            return bool(location.fs.info(location.path)["type"] == "directory")
        except FileNotFoundError:
            return False


def names_in(folder: Location) -> list[str]:
    """Names of the files in a folder, sorted; none where there is no folder."""
    if isinstance(folder, Path):
        return sorted(file.name for file in folder.glob("*") if file.exists())
    with asking(folder):
        try:
            found = folder.fs.ls(folder.path, detail=True)
        except FileNotFoundError:
            return []
        return sorted(PurePosixPath(f["name"]).name for f in found if f["type"] == "file")


def files_below(folder: Location) -> set[str]:
    """The files in a folder and in those in it, by their paths from there."""
    if isinstance(folder, Path):
        return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    with asking(folder):
        root = PurePosixPath(folder.path)
        return {PurePosixPath(p).relative_to(root).as_posix() for p in folder.fs.find(folder.path)}


def is_pattern(location: Location) -> bool:
    """Whether a URL stands for all that it fits."""
    return scheme_of(location) not in HTTP and has_magic(str(location))


def fitting(pattern: "UPath") -> "list[UPath]":
    """What a pattern fits, sorted."""
    with asking(pattern):
        found = sorted(pattern.fs.glob(pattern.path))
    places = [locate(pattern.fs.unstrip_protocol(path)) for path in found]
    return [place for place in places if not isinstance(place, Path)]


def size_of(location: Location) -> int:
    """Bytes of a file or an object.  Raises OSError or StorageError where there is none."""
    if isinstance(location, Path):
        return location.stat().st_size
    with asking(location):
        return int(location.fs.info(location.path)["size"])


def is_within(location: Location, folder: Location) -> bool:
    """Whether a place is in a folder, or the folder itself, however its path goes."""
    if isinstance(location, Path) and isinstance(folder, Path):
        return location.resolve().is_relative_to(folder.resolve())
    above = shown(folder).rstrip("/")
    inside = shown(location) == above or shown(location).startswith(f"{above}/")
    return inside and ".." not in shown(location).split("/")


@contextmanager
def asking(location: Location) -> Iterator[None]:
    """Put into words what a store's library raises: its own can quote a signed URL.

    Raises StorageError, without what it was made of, and UsageError for an address of which the
    library of a store that is not among ours makes nothing.
    """
    if isinstance(location, Path):
        yield
        return
    scheme = scheme_of(location)
    try:
        yield
    except EraseproError:
        raise
    except Exception as error:  # every library has its own
        if scheme not in (*HTTP, *WRITABLE) and not _is_stores(error):
            raise UsageError(f"{shown(location)}: {_unread(scheme, error)}") from None
        raise StorageError(f"{shown(location)}: {_reason(error)}") from None


def retried(work: Callable[[], Result], given_up: Event | None = None) -> Result:
    """The result of ``work``, which is tried again, later and later, after a passing failure.

    Raises what the last try raised; none is made once the event is set.
    """
    given_up = given_up or Event()
    for number in range(TRIES):
        if given_up.is_set():
            raise InterruptedError
        try:
            return work()
        except Exception as error:
            if number == TRIES - 1 or not _is_passing(error):
                raise
        # Not all clients at the same moment.
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2**number) * random.uniform(0.5, 1)  # noqa: S311
        given_up.wait(wait)
    raise AssertionError


class AnswerError(OSError):
    """A server's answer that is not what was asked for."""

    def __init__(self, status: int) -> None:
        super().__init__(errno.EIO, f"status {status}")
        self.status = status


def _is_passing(error: Exception) -> bool:
    """Whether the same may go well in a moment."""
    status = _status(error)
    if status is not None:
        return status in WAIT_AND_SEE or status >= 500
    if isinstance(error, (EraseproError, ValueError, *PERMANENT)):
        return False
    return isinstance(error, OSError | EOFError) or _is_of_passing_kind(error)


def _is_of_passing_kind(error: BaseException) -> bool:
    return any(kind.__name__ in PASSING for kind in type(error).__mro__)


def _status(error: BaseException | None) -> int | None:
    """What the server answered, where it did."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) or None
        if isinstance(status := getattr(response, "status_code", None), int):
            return status  # requests and httpx
        for attribute in ("status", "code"):
            if isinstance(status := getattr(error, attribute, None), int) and status >= 100:
                return status
        if _is_of_passing_kind(error):
            return None  # what is behind it speaks of the connection
        error = error.__cause__ or error.__context__
    return None


def _code(error: BaseException | None) -> str:
    """S3's word for what is wrong, if it is one."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            code = str(response.get("Error", {}).get("Code", ""))
            return code if code.isalpha() else ""
        error = error.__cause__ or error.__context__
    return ""


def _is_stores(error: Exception) -> bool:
    """Whether a store, or the way to it, failed: not its library at what it was given."""
    return _status(error) is not None or _is_passing(error) or isinstance(error, PERMANENT)


def _unread(scheme: str, error: Exception) -> str:
    """Why an address of another store is not read, and what to give instead."""
    if isinstance(error, ImportError) and error.name:
        why = f"{scheme}:// needs the library {error.name}, which is not installed"
    else:
        why = f"{scheme}:// cannot be read from this address alone ({type(error).__name__})"
    return f"{why}; {INSTEAD}"


def _reason(error: Exception) -> str:
    """What went wrong, in words that quote nothing."""
    status, kind = _status(error), type(error).__name__
    code = _code(error)
    if code == "NoSuchBucket":
        return "there is no such bucket"
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return "there is no such object"
    if status is not None:
        phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
        return f"the server says {status} {phrase}".rstrip() + (f" ({code})" if code else "")
    if kind in SPOKEN:
        return SPOKEN[kind]
    if isinstance(error, TimeoutError) or "Timeout" in kind:
        return "no answer in time"
    what = "the connection failed" if _is_passing(error) else "its library failed"
    return f"{what} ({kind})"
