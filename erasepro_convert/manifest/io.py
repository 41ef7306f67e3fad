"""Where manifests lie, and how they are read."""

from pathlib import Path
from typing import TYPE_CHECKING, overload

from pydantic import ValidationError

from erasepro_convert.errors import StorageError, UsageError
from erasepro_convert.manifest.fields import first_mistake
from erasepro_convert.manifest.model import Manifest
from erasepro_convert.manifest.names_beside import MANIFEST
from erasepro_convert.storage.listing import exists, is_folder
from erasepro_convert.storage.location import Location, locate, redacted, sibling
from erasepro_convert.storage.remote_file import read_bytes

if TYPE_CHECKING:
    from upath import UPath


@overload
def manifest_path(output: Path, *, folder: bool = False) -> Path: ...
@overload
def manifest_path(output: "UPath", *, folder: bool = False) -> "UPath": ...
def manifest_path(output: Location, *, folder: bool = False) -> Location:
    """Where the manifest lies: beside ``out.safetensors`` as ``out.manifest.json``, or inside."""
    return output / "manifest.json" if folder else sibling(output, MANIFEST)


def manifest_beside(checkpoint: Location) -> Manifest | None:
    """The manifest where one of ``checkpoint`` would lie; None where no manifest of ours does.

    OSError passes through.
    """
    try:
        path = manifest_path(checkpoint, folder=is_folder(checkpoint))
        return read_manifest(path) if exists(path) else None
    except StorageError:
        return None  # a signed URL, say, is good for one object alone
    except UsageError:
        return None  # somebody else's file of that name


def read_manifest(path: "Location | str") -> Manifest:
    """Read the manifest in a file, at a path or a URL.

    Raises UsageError for a file that is no manifest, StorageError when a store fails; OSError
    passes through.
    """
    path = locate(path)
    try:
        return Manifest.model_validate_json(read_bytes(path))
    except ValidationError as error:
        raise UsageError(f"{redacted(path)}: not a manifest: {first_mistake(error)}") from error
