"""Parts of an object in a store, each of the very object that was there at first.

One class a kind of store.  Each request is made once: who asks may ask again.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from erasepro_convert.errors import CheckpointError, StorageError
from erasepro_convert.storage.failures import AnswerError
from erasepro_convert.storage.location import (
    CONNECT_TIMEOUT,
    HTTP,
    READ_TIMEOUT,
    S3,
    client_options,
    redacted,
    scheme_of,
)

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from upath import UPath

CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
DIGESTS = ("Repr-Digest", "Digest", "md5Hash", "crc32c")
"""Where headers and stores state a checksum of the whole object."""

CHANGED = "it changed while it was read"


@dataclass(frozen=True)
class Stated:
    """What a store says of an object: enough to notice another one in its place."""

    size: int
    etag: str | None = None
    version: str | None = None
    modified: str | None = None
    checksum: str | None = None


class Ranges(Protocol):
    """An object that parts can be had of."""

    stated: Stated

    def get(self, start: int, end: int) -> bytes:
        """The bytes from ``start`` up to ``end``, of which there is at least one.

        Raises CheckpointError when the object is not the same any more, and whatever the store's
        library raises.
        """


def ranges_of(location: "UPath") -> Ranges:
    """The object at ``location``.  Raises whatever the store's library raises."""
    scheme = scheme_of(location)
    if scheme in HTTP:
        return HttpRanges(location)
    return S3Ranges(location) if scheme in S3 else OtherRanges(location)


class HttpRanges:
    """What an HTTP server has.

    fsspec makes the session, as the user configured it; the requests are our own, since it does
    not look whether a server kept to the range that it was asked for.
    """

    def __init__(self, location: "UPath") -> None:
        self._location = location
        self._fs, self._url = location.fs, str(location)
        self.stated = Stated(0)
        # Not a HEAD: a signed URL is good for GET alone.
        self.stated = self._ask(0, 1)[0]

    def get(self, start: int, end: int) -> bytes:
        """See Ranges."""
        stated, content = self._ask(start, end)
        if stated != self.stated:
            raise CheckpointError(CHANGED)
        return content

    def _ask(self, start: int, end: int) -> tuple[Stated, bytes]:
        from fsspec.asyn import sync

        answer: tuple[Stated, bytes] = sync(self._fs.loop, self._get, start, end)
        return answer

    async def _get(self, start: int, end: int) -> tuple[Stated, bytes]:
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
            stated = self._stated(reply, start, end)
            return stated, await reply.content.readexactly(end - start) if stated.size else b""

    def _stated(self, reply: "ClientResponse", start: int, end: int) -> Stated:
        """What the headers of a reply say, if they are those of the part that was asked for."""
        headers = reply.headers
        if reply.status in (404, 410):
            raise FileNotFoundError
        if reply.status == 416 and headers.get("Content-Range") == "bytes */0":
            return Stated(0)
        if reply.status in (412, 416) and self.stated.size:
            raise CheckpointError(CHANGED)  # it is shorter now
        if reply.status not in (200, 206):
            raise AnswerError(reply.status)
        found = CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        if (
            reply.status == 200
            or not found
            or headers.get("Content-Encoding", "identity") != ("identity")
        ):
            raise StorageError(
                f"{redacted(self._location)}: its server does not send parts of a file (range "
                "requests): download it first"
            )
        if (int(found[1]), int(found[2])) != (start, end - 1):
            raise AnswerError(502)  # another part than the one that was asked for
        etag = headers.get("ETag")
        # Servers that share the work can differ in the date of the same file.
        modified = None if etag else headers.get("Last-Modified")
        return Stated(int(found[3]), etag, None, modified, _checksum(headers))


class S3Ranges:
    """What S3 has, or a store that speaks like it."""

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
        self.stated = Stated(info["size"], info["ETag"], self._object.get("VersionId"))

    def get(self, start: int, end: int) -> bytes:
        """See Ranges."""
        from botocore.exceptions import ClientError
        from fsspec.asyn import sync

        asked = f"bytes={start}-{end - 1}"
        try:
            reply = self._fs.call_s3("get_object", **self._object, Range=asked)
        except OSError as error:
            cause = error.__cause__
            if isinstance(cause, ClientError) and cause.response["Error"]["Code"] in (
                "PreconditionFailed",
                "412",
                "InvalidRange",
            ):
                raise CheckpointError(CHANGED) from error
            raise
        # Some that speak like S3 pass over the condition.
        same = reply.get("ETag") == self.stated.etag
        content: bytes = sync(self._fs.loop, _content, reply["Body"], same)
        if not same:
            raise CheckpointError(CHANGED)
        return _whole(content, start, end)


async def _content(body: Any, wanted: bool) -> bytes:
    try:
        return bytes(await body.read()) if wanted else b""
    finally:
        body.close()


class OtherRanges:
    """What any other store has that fsspec knows."""

    def __init__(self, location: "UPath") -> None:
        self._fs, self._path = location.fs, location.path
        self.stated = self._now()

    def _now(self) -> Stated:
        self._fs.invalidate_cache()
        info = self._fs.info(self._path)
        if info["type"] != "file":
            raise FileNotFoundError
        etag, version = info.get("etag") or info.get("ETag"), info.get("generation")
        dates = (info.get(name) for name in ("updated", "mtime", "last_modified", "created"))
        modified = next((str(date) for date in dates if date), None)
        return Stated(info["size"], etag, version, modified, _checksum(info))

    def get(self, start: int, end: int) -> bytes:
        """See Ranges."""
        content = self._fs.cat_file(self._path, start=start, end=end)
        if self._now() != self.stated:  # asked afterwards: what was read before was the same too
            raise CheckpointError(CHANGED)
        return _whole(content, start, end)


def _whole(content: bytes, start: int, end: int) -> bytes:
    if len(content) != end - start:
        raise EOFError
    return content


def _checksum(says: Mapping[str, Any]) -> str | None:
    """A checksum of the whole object, where one is stated."""
    for name in DIGESTS:
        if says.get(name):
            return f"{name}: {says[name]}"
    return None
