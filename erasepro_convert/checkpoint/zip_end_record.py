"""Read the records at the end of a zip file, which say where its central directory is.

An archive of more than 4 GB or 65,535 members has a zip64 end record too, with wider fields.
"""

import struct
from typing import NamedTuple

from erasepro_convert.checkpoint.open_file import File
from erasepro_convert.errors import CheckpointError

DIRECTORY_LIMIT = 8 << 20
"""The largest directory that is read, in bytes; a full training checkpoint has a tenth of it."""

END_RECORD = struct.Struct("<4s4H2IH")
ZIP64_END_RECORD = struct.Struct("<4sQ2H2I4Q")
ZIP64_LOCATOR = struct.Struct("<4sIQI")
MAX32, MAX16 = 0xFFFFFFFF, 0xFFFF


class EndRecord(NamedTuple):
    """What an end record says of the central directory.

    An archive can be spread over several disks, which have numbers: ``disk`` is this one, the
    directory begins on ``directory_disk``, and this disk has ``entries_on_disk`` of its entries.
    """

    disk: int
    directory_disk: int
    entries_on_disk: int
    entries: int
    directory_size: int
    directory_start: int


TOO_LARGE = {
    "entries_on_disk": MAX16,
    "entries": MAX16,
    "directory_size": MAX32,
    "directory_start": MAX32,
}
"""What a field of the usual end record has where only the zip64 end record has room for it."""


def read_end_record(file: File) -> EndRecord:
    """Return what the end records say.

    Raises CheckpointError for records that do not agree, and unless the archive is one file whose
    directory is small and lies directly before them.
    """
    record, position = _read_end_records(file)
    if record.disk or record.directory_disk or record.entries_on_disk != record.entries:
        raise CheckpointError("its zip archive is spread over several files")
    if record.directory_size > DIRECTORY_LIMIT:
        raise CheckpointError(f"its zip archive has a directory of {record.directory_size} bytes")
    if record.directory_start + record.directory_size != position:
        raise CheckpointError("its zip archive has bytes that belong to no member")
    return record


def _read_end_records(file: File) -> tuple[EndRecord, int]:
    """Return what the end records say, and where the first of them begins."""
    position = file.size - END_RECORD.size
    if position < 0:
        raise CheckpointError("its zip archive is cut short")
    fields = END_RECORD.unpack(file.read(position, END_RECORD.size))
    signature, *described, comment_length = fields
    if signature != b"PK\5\6" or comment_length:
        raise CheckpointError(
            "its zip archive does not end where the file does: it is cut short, or something "
            "follows it"
        )
    record = EndRecord(*described)
    locator_position = position - ZIP64_LOCATOR.size
    if locator_position < 0 or file.read(locator_position, 4) != b"PK\6\7":
        return record, position
    return _read_zip64_end_record(file, locator_position, record)


def _read_zip64_end_record(
    file: File, locator_position: int, narrow: EndRecord
) -> tuple[EndRecord, int]:
    """Return what the zip64 end record says, and its position, if ``narrow`` does not differ.

    ``narrow`` is the usual end record, whose fields are too narrow for large values.
    """
    disagreement = CheckpointError("its zip archive has end records that do not agree")
    locator = ZIP64_LOCATOR.unpack(file.read(locator_position, ZIP64_LOCATOR.size))
    _, record_disk, position, disk_count = locator
    if position != locator_position - ZIP64_END_RECORD.size or record_disk or disk_count != 1:
        raise disagreement
    fields = ZIP64_END_RECORD.unpack(file.read(position, ZIP64_END_RECORD.size))
    signature, length, _, _, *described = fields
    wide = EndRecord(*described)
    has_equal_values = all(
        getattr(narrow, name) in (getattr(wide, name), too_large)
        for name, too_large in TOO_LARGE.items()
    )
    is_whole = signature == b"PK\6\6" and length == ZIP64_END_RECORD.size - 12
    if not (has_equal_values and is_whole) or wide.disk or wide.directory_disk:
        raise disagreement
    return wide._replace(disk=narrow.disk, directory_disk=narrow.directory_disk), position
