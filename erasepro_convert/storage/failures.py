"""Failures of stores: which ones are transient, and the messages for them.

The message of a store's library can quote a signed URL.  Messages for the user are therefore made
from the kind of failure alone.
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
    unsupported_reason,
    url_scheme,
)

FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0
"""Seconds between two tries."""

TRANSIENT_STATUSES = (408, 425, 429)
"""HTTP statuses, beside those from 500 on, after which the request may succeed later."""

PERMANENT_ERRORS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
TRANSIENT_ERRORS = {
    "ClientError",  # aiohttp: no connection, a broken one
    "TransportError",  # httpx: no connection, a broken one
    "ConnectionError",  # botocore: no connection, a broken one
    "HTTPClientError",
    "IncompleteReadError",
    "ResponseParserError",
}
"""Errors of libraries by the names of their classes, since not all libraries are installed."""

BOTOCORE_REASONS = {
    "NoCredentialsError": "no credentials were found",
    "ParamValidationError": "this is no address of an object",
}
"""The reason to give for an error of botocore, by the name of its class."""

Result = TypeVar("Result")


@contextmanager
def translating_errors(location: Location) -> Iterator[None]:
    """Turn what a store's library raises into an error whose message quotes no signed URL.

    Raises StorageError without the original error.  Raises UsageError where the store is
    neither HTTP nor writable and its library cannot use the address.
    """
    if isinstance(location, Path):
        yield
        return
    scheme = url_scheme(location)
    try:
        yield
    except EraseproError:
        raise
    except Exception as error:  # every library has its own
        if scheme not in (*HTTP, *WRITABLE) and not _is_store_failure(error):
            raise UsageError(f"{redacted(location)}: {unsupported_reason(scheme, error)}") from None
        raise StorageError(f"{redacted(location)}: {_reason(error)}") from None


def with_retries(work: Callable[[], Result], given_up: Event | None = None) -> Result:
    """Call ``work``, and call it again after growing waits while its failure is transient.

    Raises what the last call raised, and InterruptedError once the event is set.
    """
    given_up = given_up or Event()
    for number in range(TRIES):
        if given_up.is_set():
            raise InterruptedError
        try:
            return work()
        except Exception as error:
            if number == TRIES - 1 or not _is_transient(error):
                raise
        # The random factor keeps clients from retrying all at the same moment.
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2**number) * random.uniform(0.5, 1)  # noqa: S311
        given_up.wait(wait)
    raise AssertionError


class ResponseError(OSError):
    """A server's response that does not answer the request."""

    def __init__(self, status: int) -> None:
        super().__init__(errno.EIO, f"status {status}")
        self.status = status


def _is_transient(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    status = _status(error)
    if status is not None:
        return status in TRANSIENT_STATUSES or status >= 500
    if isinstance(error, (EraseproError, ValueError, *PERMANENT_ERRORS)):
        return False
    return isinstance(error, OSError | EOFError) or _has_transient_class(error)


def _has_transient_class(error: BaseException) -> bool:
    return any(kind.__name__ in TRANSIENT_ERRORS for kind in type(error).__mro__)


def _status(error: BaseException | None) -> int | None:
    """Return the HTTP status that the server answered with; None where it did not answer."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) or None
        if isinstance(status := getattr(response, "status_code", None), int):
            return status  # requests and httpx
        for attribute in ("status", "code"):
            if isinstance(status := getattr(error, attribute, None), int) and status >= 100:
                return status
        if _has_transient_class(error):
            return None  # its causes are about the connection
        error = error.__cause__ or error.__context__
    return None


def _s3_error_code(error: BaseException | None) -> str:
    """Return S3's error code; empty where there is none, or where it is no plain word."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            code = str(response.get("Error", {}).get("Code", ""))
            return code if code.isalpha() else ""
        error = error.__cause__ or error.__context__
    return ""


def _is_store_failure(error: Exception) -> bool:
    """Whether the store or the connection failed, not its library because of the address."""
    return _status(error) is not None or _is_transient(error) or isinstance(error, PERMANENT_ERRORS)


def _reason(error: Exception) -> str:
    """Return the reason of a failure, in words that quote nothing of the address."""
    status, kind = _status(error), type(error).__name__
    code = _s3_error_code(error)
    if code == "NoSuchBucket":
        return "there is no such bucket"
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return "there is no such object"
    if status is not None:
        phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
        return f"the server says {status} {phrase}".rstrip() + (f" ({code})" if code else "")
    if kind in BOTOCORE_REASONS:
        return BOTOCORE_REASONS[kind]
    if isinstance(error, TimeoutError) or "Timeout" in kind:
        return "no answer in time"
    problem = "the connection failed" if _is_transient(error) else "its library failed"
    return f"{problem} ({kind})"
