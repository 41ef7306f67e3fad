"""A bundle of evidence: some small files in a zip, or in a folder.

A zip holds its members stored, sorted by name and without a date, so that there is one way to write
them.  A zip that differs from it in any byte is found, whatever the byte is for.
"""

import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from erasepro_convert.checkpoint.file import open_for_reading
from erasepro_convert.checkpoint.zip_index import read_index
from erasepro_convert.errors import CheckpointError, UsageError, VerificationError
from erasepro_convert.output.destinations import Inputs
from erasepro_convert.runtime.printable import printable
from erasepro_convert.storage.atomic import replacing, replacing_folder, sync

Files = Mapping[str, bytes]
"""The content of each file, by name."""

EVIDENCE, SIGNATURE = "evidence.json", "evidence.sig"
MANIFEST, RECIPE, BILL = "manifest.json", "recipe.yaml", "bom.cdx.json"
REPORT, CARD, README = "report.html", "card.md", "README.txt"
EVALUATION, STRESS, PICTURES = "evaluation.json", "stress.json", "before-after.png"
"""The names of a bundle's files."""
ZIP = ".zip"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
"""The names that files of a bundle can have; none leads out of its folder."""
SIZE_LIMIT = 256 << 20
"""Bytes.  The evidence of a full-size model with its pictures has a tenth of it."""
FILE_LIMIT = 32
"""How many files a bundle may have."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first date that zip can express."""


def pack(files: Files) -> bytes:
    """Return the one zip of these files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            member = zipfile.ZipInfo(name, EPOCH)
            member.create_system = 3  # Unix, wherever it is written
            member.external_attr = 0o644 << 16
            archive.writestr(member, files[name])
    return packed.getvalue()


@contextmanager
def writing_bundle(
    target: Path, files: Files, inputs: Inputs, beside: Sequence[Path]
) -> Iterator[tuple[BinaryIO, ...]]:
    """Write a bundle: a zip where the target's name says so, else a folder.

    It opens files to be filled, which replace those ``beside``.  All appear together when the block
    succeeds, and none of them otherwise.

    Raises UsageError where the target would replace an input; OSError passes through.
    """
    inputs.require_apart(target)
    if target.suffix == ZIP:
        with replacing(target, *beside) as (file, *others):
            file.write(pack(files))
            yield tuple(others)
        return
    with replacing_folder(target, *beside) as (folder, opened):
        for name, content in files.items():
            with open(folder / name, "xb") as file:
                file.write(content)
                sync(file)
        yield opened


def is_bundle(path: Path) -> bool:
    """Whether a path is one that a bundle of evidence would have."""
    return path.suffix == ZIP or (path / EVIDENCE).is_file()


def read_bundle(path: Path) -> tuple[dict[str, bytes], bool]:
    """Read the files of a bundle; also say whether its bytes are those that ``pack`` gives.

    Raises UsageError where nothing is there, and VerificationError for a file or folder that no
    bundle could be: one that is too large, or has folders, links, odd or double names, or packed or
    encrypted members.  OSError passes through.
    """
    if not path.exists():
        raise UsageError(f"{path}: there is no such file")
    try:
        if path.is_dir():
            return _read_folder(path), True
        return _read_zip(path)
    except CheckpointError as error:
        raise VerificationError(f"{path}: not a bundle of evidence: {error}") from error


def _read_folder(path: Path) -> dict[str, bytes]:
    entries = sorted(path.iterdir())
    for entry in entries:
        if entry.is_symlink() or not entry.is_file():
            raise CheckpointError(f"{printable(entry.name)} is no plain file")
    _require_few([entry.name for entry in entries], sum(e.stat().st_size for e in entries))
    return {entry.name: entry.read_bytes() for entry in entries}


def _read_zip(path: Path) -> tuple[dict[str, bytes], bool]:
    file = open_for_reading(path)
    _require_few([], file.size)
    regions = read_index(file)
    _require_few(list(regions), file.size)
    whole = bytes(file.read(0, file.size))
    files = {name: whole[r.start : r.start + r.size] for name, r in regions.items()}
    return files, pack(files) == whole


def _require_few(names: list[str], size: int) -> None:
    """Raise CheckpointError for more or larger files than evidence has, and for odd names."""
    if size > SIZE_LIMIT:
        raise CheckpointError(f"it has {size} bytes, and no evidence has more than {SIZE_LIMIT}")
    if len(names) > FILE_LIMIT:
        raise CheckpointError(f"it has {len(names)} files, and no evidence more than {FILE_LIMIT}")
    for name in names:
        if not NAME.fullmatch(name):
            raise CheckpointError(f"it has a file with an odd name: {printable(name)}")
