"""The zip container that torch has written since 1.6: one pickle, one stored member a storage."""

import io
import mmap
import struct
import zipfile

from erasepro_convert.checkpoint.state import state_contents
from erasepro_convert.checkpoint.tensors import Contents, StorageRecord
from erasepro_convert.checkpoint.unpickle import unpickle
from erasepro_convert.errors import CheckpointError

MAGIC = b"PK\x03\x04"
PICKLE_LIMIT = 32 << 20
"""Bytes of ``data.pkl`` that are read at most; a full checkpoint with EMA needs 0.3 MB."""

LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, …, name length, extra length


def read_torch_zip(mapped: mmap.mmap) -> Contents:
    """Tensors of a torch zip: each is a range of the file, since members are stored unpacked.

    Raises CheckpointError for archives that torch does not write.
    """
    try:
        entries = zipfile.ZipFile(mapped).infolist()  # type: ignore[call-overload]  # a mapping is seekable
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        # ValueError: a mapping's answer to a seek before its beginning, and undecodable names.
        raise CheckpointError(f"its zip archive is broken: {error}") from error
    members = {member.filename: member for member in entries}
    if len(members) != len(entries):
        raise CheckpointError("its zip archive holds a member twice")
    pickles = [name for name in members if name.split("/")[1:] == ["data.pkl"]]
    if len(pickles) != 1:
        raise CheckpointError("it is a zip archive, but not one that torch.save writes")
    root = pickles[0].removesuffix("data.pkl")
    byteorder = members.get(root + "byteorder")  # absent before torch 2.1
    if byteorder is not None and _content(mapped, byteorder) != b"little":
        raise CheckpointError("its numbers are stored big-endian")

    def locate(storage: StorageRecord) -> int:
        member = members.get(f"{root}data/{storage.key}")
        if member is None:
            raise CheckpointError(f"its zip archive lacks the storage data/{storage.key}")
        if member.file_size != storage.nbytes:
            raise CheckpointError(
                f"storage data/{storage.key} has {member.file_size} bytes, "
                f"its pickle says {storage.nbytes}"
            )
        return _start(mapped, member)

    pickled = unpickle(io.BytesIO(_content(mapped, members[pickles[0]])))
    return state_contents(pickled.root, locate)


def _content(mapped: mmap.mmap, member: zipfile.ZipInfo) -> bytes:
    """The bytes of a small member."""
    if member.file_size > PICKLE_LIMIT:
        raise CheckpointError(
            f"its zip member {member.filename} has {member.file_size} bytes; "
            f"no checkpoint needs more than {PICKLE_LIMIT}"
        )
    start = _start(mapped, member)
    return mapped[start : start + member.file_size]


def _start(mapped: mmap.mmap, member: zipfile.ZipInfo) -> int:
    """File position of a stored member's first byte."""
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        raise CheckpointError(f"its zip member {member.filename} is packed or encrypted")
    at = member.header_offset
    header = mapped[at : at + LOCAL_HEADER.size]
    if len(header) < LOCAL_HEADER.size or not header.startswith(MAGIC):
        raise CheckpointError(f"its zip member {member.filename} is not where the index says")
    _, name_length, extra_length = LOCAL_HEADER.unpack(header)
    return int(at + LOCAL_HEADER.size + name_length + extra_length)
