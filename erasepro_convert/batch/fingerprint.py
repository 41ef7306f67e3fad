"""Recognising an input again: by its files' times or tags, by samples, or by its digests."""

import hashlib
import os
from dataclasses import asdict
from pathlib import Path

from erasepro_convert.checkpoint import open_checkpoint
from erasepro_convert.runtime.hashing import json_digest
from erasepro_convert.runtime.progress import Progress
from erasepro_convert.storage.listing import files_below, is_folder
from erasepro_convert.storage.location import Location
from erasepro_convert.storage.remote_file import RemoteFile

SAMPLES, SAMPLE = 16, 4096
"""How many samples are taken of a file, and how many bytes each has."""


def file_state(path: Location) -> tuple[int, str]:
    """Return the size in bytes, and a digest of the sizes and times of the file or the folder.

    The change time of a file cannot be set back by a user's tool.  For an object in a store, the
    digest covers what the store states about it.  Raises OSError or StorageError where there is
    no such file.
    """
    if not isinstance(path, Path):
        places = [path / name for name in sorted(files_below(path))] if is_folder(path) else [path]
        stated = [RemoteFile(place).stat for place in places]
        return sum(one.size for one in stated), json_digest([asdict(one) for one in stated])
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    statuses = [(str(file.relative_to(path)), file.stat()) for file in files]
    found = [[n, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino] for n, s in statuses]
    return sum(status.st_size for _, status in statuses), json_digest(found)


def take_fingerprint(path: Location) -> str | None:
    """Return a digest of a file's size and samples.

    It is None for anything but a regular file, and for an object in a store.  OSError passes
    through.
    """
    if not (isinstance(path, Path) and path.is_file()):  # opening a pipe would hang
        return None
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(str(size).encode())
        for number in range(SAMPLES):
            digest.update(os.pread(file.fileno(), SAMPLE, number * max(0, size - SAMPLE) // 15))
    return digest.hexdigest()


def input_digests(path: Location, progress: Progress) -> tuple[str, ...]:
    """Return the SHA-256 of each file of a checkpoint.  Raises what opening it raises."""
    checkpoint = open_checkpoint(path)

    def report(done: int) -> None:
        progress("hash", done, checkpoint.size)

    return tuple(file.hashes(report).sha256 for file in checkpoint.files)
