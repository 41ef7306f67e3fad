"""Failures of stores: which pass, and what to say of them.

What a store's library says of a failure can quote a signed URL.  Messages are therefore made of
the kind of the failure alone.
"""

import errno
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from threading import Event
from typing import TypeVar

from erasepro_convert.errors import EraseproError, StorageError, UsageError
from erasepro_convert.storage.location import (
    HTTP,
    TRIES,
    WRITABLE,
    Location,
    redacted,
    scheme_of,
    unread_reason,
)

FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0

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

Result = TypeVar("Result")


@contextmanager
def translating_errors(location: Location) -> Iterator[None]:
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
            raise UsageError(f"{redacted(location)}: {unread_reason(scheme, error)}") from None
        raise StorageError(f"{redacted(location)}: {_reason(error)}") from None


def with_retries(work: Callable[[], Result], given_up: Event | None = None) -> Result:
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
