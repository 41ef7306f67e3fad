"""Find the members of a zip file, if all statements about them agree.

Zip says most things twice, and readers differ in which copy they trust; that is how a file shows a
scanner one thing and a loader another.  torch writes its members stored, one after another from the
first byte, then the central directory, then the end records and nothing more.  This reader accepts
that and nothing else.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from erasepro_convert.checkpoint.open_file import File, Readable
from erasepro_convert.checkpoint.tensor_info import Region
from erasepro_convert.checkpoint.zip_end_record import MAX32, read_end_record
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.printable import is_plain, printable

LOCAL_HEADER = struct.Struct("<4s5H3I2H")
CENTRAL_ENTRY = struct.Struct("<4s6H3I5H2I")
DESCRIPTORS = {16: struct.Struct("<4s3I"), 24: struct.Struct("<4sI2Q")}

DESCRIPTOR_FLAG, UTF8_FLAG = 0x0008, 0x0800
ZIP64_EXTRA = 1
FOLDER_ATTRIBUTE = 0x10
USUAL_EXTRA = 96
"""Room for a usual extra field, in bytes: torch pads with it to align values to 64 bytes."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member as the central directory describes it.

    ``header_offset`` is where its local header begins.
    """

    name: str
    raw_name: bytes
    flags: int
    crc: int
    size: int
    header_offset: int

    @property
    def has_descriptor(self) -> bool:
        """Whether a descriptor follows the member's bytes."""
        return bool(self.flags & DESCRIPTOR_FLAG)

    @property
    def crc_and_sizes(self) -> tuple[int, int, int]:
        """The CRC, the compressed size and the size, which are equal for a stored member."""
        return self.crc, self.size, self.size


def read_index(file: File) -> dict[str, Region]:
    """Return the position of each member's bytes, by name.

    A CRC of zero states nothing: torch writes that where it was told to compute none.

    Raises CheckpointError for anything but stored, plain, distinct members that fill the file.
    """
    end_record = read_end_record(file)
    directory_start = end_record.directory_start
    directory = file.read(directory_start, end_record.directory_size)
    members = list(_read_members(directory, end_record.entries))
    names = {member.name.casefold() for member in members}  # torch ignores case
    if len(names) != len(members):
        raise CheckpointError("its zip archive holds a member twice")
    members.sort(key=lambda member: member.header_offset)
    next_starts = [*(member.header_offset for member in members[1:]), directory_start]
    if not members or members[0].header_offset:
        raise CheckpointError("its zip archive does not begin with its first member")
    headers = file.prefetching(_around_headers(members, next_starts))
    return {
        member.name: _locate_content(headers, member, next_start)
        for member, next_start in zip(members, next_starts, strict=True)
    }


def verified(region: Region, content: Iterable[memoryview]) -> Iterator[memoryview]:
    """Pass on the bytes of ``region``, in chunks.

    Raises CheckpointError after the last chunk where the bytes do not have the region's CRC.
    """
    crc = 0
    for chunk in content:
        if region.crc is not None:
            crc = zlib.crc32(chunk, crc)
        yield chunk
    if region.crc not in (None, crc):
        raise CheckpointError(f"it is damaged: the CRC of the bytes at {region.start} is wrong")


def _read_members(directory: bytearray, count: int) -> Iterator[Member]:
    """Give the ``count`` members that the central directory describes."""
    position = 0
    for _ in range(count):
        if position + CENTRAL_ENTRY.size > len(directory):
            raise CheckpointError("its zip archive has a directory that is cut short")
        fields = CENTRAL_ENTRY.unpack_from(directory, position)
        signature, _, _, flags, method, _, _, crc, compressed_size, size = fields[:10]
        name_length, extra_length, comment_length, disk, _, attributes, header_offset = fields[10:]
        position += CENTRAL_ENTRY.size
        raw_name = bytes(directory[position : position + name_length])
        position += name_length
        extra = bytes(directory[position : position + extra_length])
        position += extra_length + comment_length
        if signature != b"PK\1\2" or position > len(directory):
            raise CheckpointError("its zip archive has a broken directory")
        name = _decode_name(raw_name)
        size, compressed_size, header_offset = _with_zip64_values(
            extra, size, compressed_size, header_offset
        )
        is_stored = not method and size == compressed_size
        if not is_stored or flags & ~(DESCRIPTOR_FLAG | UTF8_FLAG) or disk:
            raise CheckpointError(f"its zip member {name} is packed or encrypted")
        if size and (name.endswith("/") or attributes & FOLDER_ATTRIBUTE):  # torch reads zeros
            raise CheckpointError(f"its zip member {name} is a folder with content")
        yield Member(name, raw_name, flags, crc, size, header_offset)
    if position != len(directory):
        raise CheckpointError("its zip archive has a broken directory")


def _decode_name(raw: bytes) -> str:
    try:
        name = raw.decode()
    except UnicodeDecodeError as error:
        raise CheckpointError("its zip archive has a member whose name is not UTF-8") from error
    if not is_plain(name):
        raise CheckpointError(f"its zip archive has a member with an odd name: {printable(name)}")
    return name


def _with_zip64_values(extra: bytes, *values: int) -> list[int]:
    """Replace the values that do not fit into 32 bits by those in the zip64 field of ``extra``."""
    wide_values = b""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == ZIP64_EXTRA:
            if wide_values:  # readers differ in which of two they trust
                raise CheckpointError("its zip archive has a broken directory")
            wide_values = extra[4 : 4 + length]
        extra = extra[4 + length :]
    result = []
    for value in values:
        if value != MAX32:
            result.append(value)
            continue
        if len(wide_values) < 8:
            raise CheckpointError("its zip archive lacks the size of a large member")
        result.append(int.from_bytes(wide_values[:8], "little"))
        wide_values = wide_values[8:]
    return result


def _around_headers(
    members: Iterable[Member], next_starts: Iterable[int]
) -> Iterator[tuple[int, int]]:
    """Give the ranges of the file (start, count) in which local headers and descriptors are."""
    for member, next_start in zip(members, next_starts, strict=True):
        yield member.header_offset, LOCAL_HEADER.size + len(member.raw_name) + USUAL_EXTRA
        yield next_start - max(DESCRIPTORS), max(DESCRIPTORS)


def _locate_content(file: Readable, member: Member, next_start: int) -> Region:
    """Return the position of a member's bytes.

    ``next_start`` is where the next member or the directory begins.
    """
    start = _read_local_header(file, member, next_start)
    _require_descriptor(file, member, start + member.size, next_start)
    states_crc = member.crc or not member.size
    return Region(start, member.size, member.crc if states_crc else None)


def _read_local_header(file: Readable, member: Member, next_start: int) -> int:
    """Return where the local header ends, if it says what the directory says."""
    header_end = member.header_offset + LOCAL_HEADER.size
    if header_end > next_start:
        raise _mismatch(member)
    fields = LOCAL_HEADER.unpack(file.read(member.header_offset, LOCAL_HEADER.size))
    signature, _, flags, method, _, _ = fields[:6]
    crc, compressed_size, size, name_length, extra_length = fields[6:]
    content_start: int = header_end + name_length + extra_length
    if signature != b"PK\3\4" or (flags, method) != (member.flags, 0) or content_start > next_start:
        raise _mismatch(member)
    tail = file.read(header_end, name_length + extra_length)
    if bytes(tail[:name_length]) != member.raw_name:
        raise _mismatch(member)
    size, compressed_size = _with_zip64_values(bytes(tail[name_length:]), size, compressed_size)
    stated = crc, compressed_size, size
    is_deferred = member.has_descriptor and stated == (0, 0, 0)
    if stated != member.crc_and_sizes and not is_deferred:
        raise _mismatch(member)
    return content_start


def _require_descriptor(file: Readable, member: Member, content_end: int, next_start: int) -> None:
    """Raise CheckpointError unless a member's descriptor, or nothing, lies between two positions.

    A descriptor repeats what the directory says, for writers that learn it only after the content.
    """
    gap = next_start - content_end
    if not member.has_descriptor:
        if gap:
            raise _mismatch(member)
        return
    layout = DESCRIPTORS.get(gap)
    if layout is None or layout.unpack(file.read(content_end, gap)) != (
        b"PK\7\10",
        *member.crc_and_sizes,
    ):
        raise _mismatch(member)


def _mismatch(member: Member) -> CheckpointError:
    return CheckpointError(f"its zip member {member.name} is not what the directory says")
