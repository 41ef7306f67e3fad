"""The container of torch before 1.6: five pickles in a row, then the raw storages."""

import struct
from itertools import accumulate

from erasepro_convert.checkpoint.open_file import File
from erasepro_convert.checkpoint.pickle_reader import PICKLE_LIMIT, TOO_LARGE, TruncatedPickleError
from erasepro_convert.checkpoint.state_dict import parse_state_dict
from erasepro_convert.checkpoint.tensor_info import ParsedFile, Region, StorageRecord
from erasepro_convert.checkpoint.torch_pickle import unpickle
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.printable import printable

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
MAGIC = b"\x8a\x0a" + MAGIC_NUMBER.to_bytes(10, "little") + b"."
"""The end of the first pickle.  The protocol and, from 4 on, a frame's length come before it."""
MAGIC_LIMIT = 2 + 9 + len(MAGIC)
PROTOCOL = 1001


def read_torch_legacy(file: File) -> ParsedFile:
    """Parse the tensors of a pre-1.6 file; each storage is a count (int64) and its values.

    Raises CheckpointError for a file that torch does not write.
    """
    head = file.read(0, min(file.size, PICKLE_LIMIT))
    pickles = []
    position = 0
    for _ in range(5):
        try:
            pickles.append(unpickle(head, position))
        except TruncatedPickleError as error:
            raise CheckpointError(TOO_LARGE) if len(head) < file.size else error from error
        position = pickles[-1].end
    magic, protocol, system, data, keys = pickles
    if magic.root != MAGIC_NUMBER or protocol.root != PROTOCOL or type(system.root) is not dict:
        raise CheckpointError("its pre-1.6 torch header is broken")
    if system.root.get("little_endian") is not True:
        raise CheckpointError("its numbers are stored big-endian")
    regions = _storages(file, position, keys.root, data.storages)

    def locate(storage: StorageRecord) -> Region:
        return regions[storage.key]

    return parse_state_dict(data, locate)


def _storages(
    file: File, position: int, keys: object, storages: dict[str, StorageRecord]
) -> dict[str, Region]:
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise CheckpointError("its list of storages is no list of names")
    if sorted(keys) != sorted(storages):
        raise CheckpointError("its list of storages does not match its tensors")
    regions: dict[str, Region] = {}
    ends = accumulate((8 + storages[key].nbytes for key in keys), initial=position)
    counts = file.prefetching((start, 8) for start in ends)
    for key in keys:
        storage = storages[key]
        if counts.read(position, 8) != struct.pack("<q", storage.numel):
            raise CheckpointError(
                f"storage {printable(key, 40)} does not have the {storage.numel} values it should"
            )
        regions[key] = Region(position + 8, storage.nbytes)
        position += 8 + storage.nbytes
    if position != file.size:
        raise CheckpointError(
            f"it is cut short, or something follows it: its tensors end at byte {position}, "
            f"the file at {file.size}"
        )
    return regions
