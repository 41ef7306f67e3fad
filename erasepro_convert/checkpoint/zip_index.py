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
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.printable import is_plain, printable

DIRECTORY_LIMIT = 8 << 20
"""The largest directory that is read, in bytes; a full training checkpoint has a tenth of it."""

LOCAL_HEADER = struct.Struct("<4s5H3I2H")
CENTRAL_ENTRY = struct.Struct("<4s6H3I5H2I")
END_RECORD = struct.Struct("<4s4H2IH")
ZIP64_END_RECORD = struct.Struct("<4sQ2H2I4Q")
ZIP64_LOCATOR = struct.Struct("<4sIQI")
DESCRIPTORS = {16: struct.Struct("<4s3I"), 24: struct.Struct("<4sI2Q")}

DESCRIPTOR_FLAG, UTF8_FLAG = 0x0008, 0x0800
MAX32, MAX16 = 0xFFFFFFFF, 0xFFFF
ZIP64_EXTRA = 1
FOLDER_ATTRIBUTE = 0x10
USUAL_EXTRA = 96
"""Room for a usual extra field, in bytes: torch pads with it to align values to 64 bytes."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member as the central directory describes it.

    ``header_offset`` is where its local header is.
    """

    name: str
    raw_name: bytes
    flags: int
    crc: int
    size: int
    header_offset: int


def read_index(file: File) -> dict[str, Region]:
    """The position of each member's bytes, by name.

    A CRC of zero states nothing: torch writes that where it was told to compute none.

    Raises CheckpointError for anything but stored, plain, distinct members that fill the file.
    """
    start, size, count = _locate_directory(file)
    members = list(_read_members(file.read(start, size), count))
    names = {member.name.casefold() for member in members}  # torch ignores case
    if len(names) != len(members):
        raise CheckpointError("its zip archive holds a member twice")
    members.sort(key=lambda member: member.header_offset)
    ends = [*(member.header_offset for member in members[1:]), start]
    if not members or members[0].header_offset:
        raise CheckpointError("its zip archive does not begin with its first member")
    headers = file.prefetching(_around_headers(members, ends))
    return {
        member.name: _locate_content(headers, member, end)
        for member, end in zip(members, ends, strict=True)
    }


def verified(region: Region, content: Iterable[memoryview]) -> Iterator[memoryview]:
    """Pass on the bytes of ``region``, in chunks.

    Raises CheckpointError after the last chunk where the bytes do not have the region's CRC.
    """
    crc = 0
    for piece in content:
        if region.crc is not None:
            crc = zlib.crc32(piece, crc)
        yield piece
    if region.crc not in (None, crc):
        raise CheckpointError(f"it is damaged: the CRC of the bytes at {region.start} is wrong")


def _locate_directory(file: File) -> tuple[int, int, int]:
    """The position, size and number of entries of the central directory."""
    last = file.size - END_RECORD.size
    if last < 0:
        raise CheckpointError("its zip archive is cut short")
    record = END_RECORD.unpack(file.read(last, END_RECORD.size))
    signature, disk, first_disk, here, count, size, start, comment = record
    if signature != b"PK\5\6" or comment:
        raise CheckpointError(
            "its zip archive does not end where the file does: it is cut short, or something "
            "follows it"
        )
    end = last
    locator_at = last - ZIP64_LOCATOR.size
    if locator_at >= 0 and file.read(locator_at, 4) == b"PK\6\7":
        _, locator_disk, end, disks = ZIP64_LOCATOR.unpack(
            file.read(locator_at, ZIP64_LOCATOR.size)
        )
        if end != locator_at - ZIP64_END_RECORD.size or locator_disk or disks != 1:
            raise CheckpointError("its zip archive has end records that do not agree")
        record = ZIP64_END_RECORD.unpack(file.read(end, ZIP64_END_RECORD.size))
        signature, length, _, _, disk64, first_disk64, here64, count64, size64, start64 = record
        agree = all(
            short in (long, limit)
            for short, long, limit in (
                (here, here64, MAX16),
                (count, count64, MAX16),
                (size, size64, MAX32),
                (start, start64, MAX32),
            )
        )
        if signature != b"PK\6\6" or length != ZIP64_END_RECORD.size - 12 or disk64 or first_disk64:
            agree = False
        if not agree:
            raise CheckpointError("its zip archive has end records that do not agree")
        here, count, size, start = here64, count64, size64, start64
    if disk or first_disk or here != count:
        raise CheckpointError("its zip archive is spread over several files")
    if size > DIRECTORY_LIMIT:
        raise CheckpointError(f"its zip archive has a directory of {size} bytes")
    if start + size != end:
        raise CheckpointError("its zip archive has bytes that belong to no member")
    return start, size, count


def _read_members(directory: bytearray, count: int) -> Iterator[Member]:
    position = 0
    for _ in range(count):
        if position + CENTRAL_ENTRY.size > len(directory):
            raise CheckpointError("its zip archive has a directory that is cut short")
        fields = CENTRAL_ENTRY.unpack_from(directory, position)
        signature, _, _, flags, method, _, _, crc, packed, size = fields[:10]
        name_length, extra_length, comment_length, disk, _, external, header_offset = fields[10:]
        position += CENTRAL_ENTRY.size
        raw_name = bytes(directory[position : position + name_length])
        position += name_length
        extra = bytes(directory[position : position + extra_length])
        position += extra_length + comment_length
        if signature != b"PK\1\2" or position > len(directory):
            raise CheckpointError("its zip archive has a broken directory")
        name = _decode_name(raw_name)
        size, packed, header_offset = _with_zip64_values(extra, size, packed, header_offset)
        if method or size != packed or flags & ~(DESCRIPTOR_FLAG | UTF8_FLAG) or disk:
            raise CheckpointError(f"its zip member {name} is packed or encrypted")
        if size and (name.endswith("/") or external & FOLDER_ATTRIBUTE):  # torch reads zeros
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
    wide = b""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == ZIP64_EXTRA:
            if wide:  # readers differ in which of two they trust
                raise CheckpointError("its zip archive has a broken directory")
            wide = extra[4 : 4 + length]
        extra = extra[4 + length :]
    result = []
    for value in values:
        if value == MAX32:
            if len(wide) < 8:
                raise CheckpointError("its zip archive lacks the size of a large member")
            value = int.from_bytes(wide[:8], "little")  # noqa: PLW2901
            wide = wide[8:]
        result.append(value)
    return result


def _around_headers(members: Iterable[Member], ends: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The ranges of the file (start, count) in which local headers and descriptors are."""
    for member, end in zip(members, ends, strict=True):
        yield member.header_offset, LOCAL_HEADER.size + len(member.raw_name) + USUAL_EXTRA
        yield end - max(DESCRIPTORS), max(DESCRIPTORS)


def _locate_content(file: Readable, member: Member, end: int) -> Region:
    """The position of a member's bytes, given where the next member or the directory begins."""
    mismatch = CheckpointError(f"its zip member {member.name} is not what the directory says")
    if member.header_offset + LOCAL_HEADER.size > end:
        raise mismatch
    fields = LOCAL_HEADER.unpack(file.read(member.header_offset, LOCAL_HEADER.size))
    signature, _, flags, method, _, _, crc, packed, size, name_length, extra_length = fields
    start = member.header_offset + LOCAL_HEADER.size + name_length + extra_length
    if signature != b"PK\3\4" or (flags, method) != (member.flags, 0) or start > end:
        raise mismatch
    tail = file.read(member.header_offset + LOCAL_HEADER.size, name_length + extra_length)
    if bytes(tail[:name_length]) != member.raw_name:
        raise mismatch
    size, packed = _with_zip64_values(bytes(tail[name_length:]), size, packed)
    stated = (crc, packed, size)
    expected = (member.crc, member.size, member.size)
    described = bool(flags & DESCRIPTOR_FLAG)
    if stated != expected and not (described and stated == (0, 0, 0)):
        raise mismatch
    gap = end - (start + member.size)
    if described:
        descriptor = DESCRIPTORS.get(gap)
        if descriptor is None or descriptor.unpack(file.read(end - gap, gap)) != (
            b"PK\7\10",
            *expected,
        ):
            raise mismatch
    elif gap:
        raise mismatch
    return Region(start, member.size, member.crc if member.crc or not member.size else None)
