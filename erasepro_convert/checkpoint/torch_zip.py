"""The zip container that torch has written since 1.6: a pickle, and a member for each storage."""

from erasepro_convert.checkpoint.open_file import File
from erasepro_convert.checkpoint.pickle_reader import PICKLE_LIMIT, TOO_LARGE
from erasepro_convert.checkpoint.state_dict import parse_state_dict
from erasepro_convert.checkpoint.tensor_info import ParsedFile, Region, StorageRecord
from erasepro_convert.checkpoint.torch_pickle import unpickle
from erasepro_convert.checkpoint.zip_index import read_index, verified
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.printable import printable

MAGIC = b"PK\x03\x04"
VERSIONS = range(1, 11)
"""The versions that torch reads; it has written 3 since 1.6.  A later one may mean anything."""
VERSION_RECORDS = "version", ".data/version"


def read_torch_zip(file: File) -> ParsedFile:
    """Parse the tensors of a torch zip; each is a range of the file, since members are stored.

    Raises CheckpointError for archives that torch does not write.
    """
    members = read_index(file)
    pickles = [name for name in members if name.split("/")[1:] == ["data.pkl"]]
    if len(pickles) != 1:
        raise CheckpointError("it is a zip archive, but not one that torch.save writes")
    root = pickles[0].removesuffix("data.pkl")
    folded = {name.casefold(): region for name, region in members.items()}  # as torch looks
    if (root + "constants.pkl").casefold() in folded:
        raise CheckpointError("it is a TorchScript program, not a checkpoint")
    if not all(name.startswith(root) for name in members):
        raise CheckpointError("its zip archive has members that torch does not write")
    byteorder = folded.get((root + "byteorder").casefold())  # absent before torch 2.1
    if byteorder is not None and _content(file, byteorder) != b"little":
        raise CheckpointError("its numbers are stored big-endian")
    versions = [
        folded[name] for part in VERSION_RECORDS if (name := root.casefold() + part) in folded
    ]
    for version in versions:
        _require_known_version(_content(file, version))
    if not versions:
        raise CheckpointError("its zip archive does not say its version: torch refuses it too")
    data = _content(file, members[pickles[0]])
    pickled = unpickle(data)
    if pickled.end != len(data):
        raise CheckpointError("something follows its pickle")

    def locate(storage: StorageRecord) -> Region:
        region = members.get(f"{root}data/{storage.key}")
        if region is None:
            raise CheckpointError(
                f"its zip archive lacks the storage data/{printable(storage.key, 100)}"
            )
        if region.size != storage.nbytes:
            raise CheckpointError(
                f"storage data/{storage.key} has {region.size} bytes, "
                f"its pickle says {storage.nbytes}"
            )
        return region

    return parse_state_dict(pickled, locate)


def _require_known_version(content: bytearray) -> None:
    """Raise CheckpointError for a version that torch refuses, or that is no plain number."""
    number = content.removesuffix(b"\n")
    if len(number) > 2 or not number.isdigit() or int(number) not in VERSIONS:
        version = printable(content[:20].decode("latin-1"))
        raise CheckpointError(
            f"its zip archive has version '{version}'; torch reads {VERSIONS[0]} to {VERSIONS[-1]}"
        )


def _content(file: File, region: Region) -> bytearray:
    """Return the bytes of a small member.  Raises CheckpointError for a large or damaged one."""
    if region.size > PICKLE_LIMIT:
        raise CheckpointError(TOO_LARGE)
    return bytearray().join(verified(region, file.chunks(region.start, region.size)))
