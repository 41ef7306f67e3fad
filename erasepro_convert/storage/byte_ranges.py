"""Read ranges of bytes of an object in a store, and notice when the object has been replaced.

There is a class for each kind of store.  Each makes a request once; retrying is left to the caller.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from erasepro_convert.errors import CheckpointError, StorageError
from erasepro_convert.storage.failures import ResponseError
from erasepro_convert.storage.location import (
    CONNECT_TIMEOUT,
    HTTP,
    READ_TIMEOUT,
    S3,
    client_options,
    redacted,
    url_scheme,
)

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from upath import UPath

CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
CHECKSUM_FIELDS = ("Repr-Digest", "Digest", "md5Hash", "crc32c")
"""Fields in which headers and stores state a checksum of the whole object."""

CHANGED = "it changed while it was read"


@dataclass(frozen=True)
class ObjectStat:
    """What a store reports of an object, enough to notice that another one has replaced it."""

    size: int
    etag: str | None = None
    version: str | None = None
    modified: str | None = None
    checksum: str | None = None


class RangeReader(Protocol):
    """An object whose ranges of bytes can be read."""

    stat: ObjectStat

    def get(self, start: int, end: int) -> bytes:
        """Return the bytes from ``start`` up to ``end``; the range must not be empty.

        Raises CheckpointError when the object has been replaced, and whatever the store's library
        raises.
        """


def open_range_reader(location: "UPath") -> RangeReader:
    """Open the object at ``location``.  Raises whatever the store's library raises."""
    scheme = url_scheme(location)
    if scheme in HTTP:
        return HttpRangeReader(location)
    return S3RangeReader(location) if scheme in S3 else FsspecRangeReader(location)


class HttpRangeReader:
    """An object on an HTTP server.

    fsspec makes the session, as the user configured it.  The requests are made here, since fsspec
    does not check that a server answers with the range that was requested.
    """

    def __init__(self, location: "UPath") -> None:
        self._location = location
        self._fs, self._url = location.fs, str(location)
        self.stat = ObjectStat(0)
        # This is no HEAD request: a signed URL is valid for GET alone.
        self.stat = self._request(0, 1)[0]

    def get(self, start: int, end: int) -> bytes:
        """Read a range, as RangeReader says."""
        stat, content = self._request(start, end)
        if stat != self.stat:
            raise CheckpointError(CHANGED)
        return content

    def _request(self, start: int, end: int) -> tuple[ObjectStat, bytes]:
        from fsspec.asyn import sync

        answer: tuple[ObjectStat, bytes] = sync(self._fs.loop, self._request_async, start, end)
        return answer

    async def _request_async(self, start: int, end: int) -> tuple[ObjectStat, bytes]:
        from aiohttp import ClientTimeout

        session = await self._fs.set_session()
        options = dict(self._fs.kwargs)
        options["headers"] = {
            **options.get("headers", {}),
            "Range": f"bytes={start}-{end - 1}",
            "Accept-Encoding": "identity",
        }
        options.setdefault(
            "timeout",
            ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT),
        )
        async with session.get(self._fs.encode_url(self._url), **options) as reply:
            stat = self._read_headers(reply, start, end)
            return stat, await reply.content.readexactly(end - start) if stat.size else b""

    def _read_headers(self, reply: "ClientResponse", start: int, end: int) -> ObjectStat:
        """Read the headers of a reply, and check that it holds the range that was requested."""
        headers = reply.headers
        if reply.status in (404, 410):
            raise FileNotFoundError
        if reply.status == 416 and headers.get("Content-Range") == "bytes */0":
            return ObjectStat(0)
        if reply.status in (412, 416) and self.stat.size:
            raise CheckpointError(CHANGED)  # the object is shorter now
        if reply.status not in (200, 206):
            raise ResponseError(reply.status)
        found = CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        if (
            reply.status == 200
            or not found
            or headers.get("Content-Encoding", "identity") != "identity"
        ):
            raise StorageError(
                f"{redacted(self._location)}: its server does not send parts of a file (range "
                "requests): download it first"
            )
        if (int(found[1]), int(found[2])) != (start, end - 1):
            raise ResponseError(502)  # the server sent another range
        etag = headers.get("ETag")
        # Servers behind one address can report different dates for one file.
        modified = None if etag else headers.get("Last-Modified")
        return ObjectStat(int(found[3]), etag, None, modified, _checksum(headers))


class S3RangeReader:
    """An object in S3, or in a store with S3's interface."""

    def __init__(self, location: "UPath") -> None:
        fs = location.fs
        options = {**fs.storage_options, **client_options("s3", retries=False)}
        self._fs = type(fs)(**options)
        self._fs.retries = 1
        bucket, key, version = self._fs.split_path(location.path)
        info = self._fs.info(location.path)
        if info["type"] != "file":
            raise FileNotFoundError
        version = version or info.get("VersionId")
        self._object = {"Bucket": bucket, "Key": key, "IfMatch": info["ETag"]}
        if version and version != "null":
            self._object["VersionId"] = version
        self.stat = ObjectStat(info["size"], info["ETag"], self._object.get("VersionId"))

    def get(self, start: int, end: int) -> bytes:
        """Read a range, as RangeReader says."""
        from botocore.exceptions import ClientError
        from fsspec.asyn import sync

        byte_range = f"bytes={start}-{end - 1}"
        try:
            reply = self._fs.call_s3("get_object", **self._object, Range=byte_range)
        except OSError as error:
            cause = error.__cause__
            if isinstance(cause, ClientError) and cause.response["Error"]["Code"] in (
                "PreconditionFailed",
                "412",
                "InvalidRange",
            ):
                raise CheckpointError(CHANGED) from error
            raise
        # Some stores with S3's interface ignore IfMatch.
        same = reply.get("ETag") == self.stat.etag
        content: bytes = sync(self._fs.loop, _read_body, reply["Body"], same)
        if not same:
            raise CheckpointError(CHANGED)
        return _complete(content, start, end)


async def _read_body(body: Any, wanted: bool) -> bytes:
    """Close the body of a reply, after reading it if it is ``wanted``."""
    try:
        return bytes(await body.read()) if wanted else b""
    finally:
        body.close()


class FsspecRangeReader:
    """An object in any other store that fsspec supports."""

    def __init__(self, location: "UPath") -> None:
        self._fs, self._path = location.fs, location.path
        self.stat = self._current_stat()

    def _current_stat(self) -> ObjectStat:
        self._fs.invalidate_cache()
        info = self._fs.info(self._path)
        if info["type"] != "file":
            raise FileNotFoundError
        etag, version = info.get("etag") or info.get("ETag"), info.get("generation")
        dates = (info.get(name) for name in ("updated", "mtime", "last_modified", "created"))
        modified = next((str(date) for date in dates if date), None)
        return ObjectStat(info["size"], etag, version, modified, _checksum(info))

    def get(self, start: int, end: int) -> bytes:
        """Read a range, as RangeReader says."""
        content = self._fs.cat_file(self._path, start=start, end=end)
        if self._current_stat() != self.stat:  # after reading, so that no change escapes
            raise CheckpointError(CHANGED)
        return _complete(content, start, end)


def _complete(content: bytes, start: int, end: int) -> bytes:
    """Pass on the bytes of a range.  Raises EOFError where some are missing."""
    if len(content) != end - start:
        raise EOFError
    return content


def _checksum(fields: Mapping[str, Any]) -> str | None:
    """Return the checksum of the whole object with the name of its field, or None."""
    for name in CHECKSUM_FIELDS:
        if fields.get(name):
            return f"{name}: {fields[name]}"
    return None
