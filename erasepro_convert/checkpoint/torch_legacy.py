"""The container of torch before 1.6: five pickles in a row, then the raw storages."""

import mmap
import struct

from erasepro_convert.checkpoint.state import state_contents
from erasepro_convert.checkpoint.tensors import Contents, StorageRecord
from erasepro_convert.checkpoint.unpickle import unpickle
from erasepro_convert.errors import CheckpointError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
MAGIC = b"\x80\x02\x8a\x0a" + MAGIC_NUMBER.to_bytes(10, "little") + b"."
PROTOCOL = 1001


def read_torch_legacy(mapped: mmap.mmap) -> Contents:
    """Tensors of a pre-1.6 file; each storage is a count (int64) followed by its values.

    Raises CheckpointError for what torch did not write.
    """
    mapped.seek(0)
    # Unpickling straight from the mapping leaves its position exactly behind each pickle.
    magic, protocol, system, data, keys = (unpickle(mapped) for _ in range(5))
    if magic.root != MAGIC_NUMBER or protocol.root != PROTOCOL or type(system.root) is not dict:
        raise CheckpointError("its pre-1.6 torch header is broken")
    if system.root.get("little_endian") is not True:
        raise CheckpointError("its numbers are stored big-endian")
    starts = _storage_starts(mapped, keys.root, data.storages)

    def locate(storage: StorageRecord) -> int:
        if storage.key not in starts:
            raise CheckpointError(f"storage {storage.key} is missing from its list of storages")
        return starts[storage.key]

    return state_contents(data.root, locate)


def _storage_starts(
    mapped: mmap.mmap, keys: object, storages: dict[str, StorageRecord]
) -> dict[str, int]:
    if type(keys) is not list or sorted(map(str, keys)) != sorted(storages):
        raise CheckpointError("its list of storages does not match its tensors")
    starts: dict[str, int] = {}
    position = mapped.tell()
    for key in keys:
        storage = storages[key]
        count = mapped[position : position + 8]
        if count != struct.pack("<q", storage.numel):
            raise CheckpointError(
                f"storage {key} does not have the {storage.numel} values it should"
            )
        starts[key] = position + 8
        position += 8 + storage.nbytes
    return starts
