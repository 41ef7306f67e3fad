"""The manifest: the record of one conversion, and (by these models) its JSON Schema.

Two identical runs give the same manifest but for ``varies_between_runs``.  Norms are Frobenius
norms, computed in float64 from the weights as stored in the output.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from pydantic import ModelWrapValidatorHandler, PrivateAttr, ValidationError, model_validator

from erasepro_convert.errors import StorageError, UsageError
from erasepro_convert.manifest.erasure import (
    Alignment,
    AnchorPlace,
    Change,
    ColumnSet,
    Conflict,
    EditRecord,
    FeatureDistance,
    PromptPair,
    Residual,
    Trained,
)
from erasepro_convert.manifest.fields import Encoder, Norm, Record, Sha256
from erasepro_convert.manifest.files import (
    ClipSkipFrom,
    DroppedEntry,
    Input,
    InputFile,
    Output,
    OutputFile,
    Previous,
    RenamedTensor,
    RepairedTensor,
    Stored,
    Tensors,
    Variant,
    WrittenTensor,
)
from erasepro_convert.manifest.measures import (
    EmaRecord,
    Feed,
    ProbeRecord,
    PromptMeasure,
    Try,
    Tuning,
)
from erasepro_convert.manifest.version_1 import to_version_1, to_version_2
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.hashing import json_digest, pretty
from erasepro_convert.storage.listing import exists, is_folder
from erasepro_convert.storage.location import Location, beside, redacted
from erasepro_convert.storage.remote_file import read_bytes

if TYPE_CHECKING:
    from upath import UPath

__all__ = [
    "Alignment",
    "AnchorPlace",
    "Change",
    "ClipSkipFrom",
    "ColumnSet",
    "Conflict",
    "DroppedEntry",
    "EditRecord",
    "EmaRecord",
    "Encoder",
    "FeatureDistance",
    "Feed",
    "Input",
    "InputFile",
    "Manifest",
    "Output",
    "OutputFile",
    "Previous",
    "ProbeRecord",
    "PromptMeasure",
    "PromptPair",
    "RenamedTensor",
    "RepairedTensor",
    "Residual",
    "Stored",
    "Tensors",
    "Tool",
    "Trained",
    "Try",
    "Tuning",
    "Variant",
    "VariesBetweenRuns",
    "WrittenTensor",
    "manifest_beside",
    "manifest_path",
    "read_manifest",
    "schema_json",
]


class Tool(Record):
    """What made the output."""

    name: Literal["erasepro-convert"] = "erasepro-convert"
    version: str
    libraries: dict[str, str]
    """Versions that the output's bytes depend on."""


class VariesBetweenRuns(Record):
    """The only part that differs between two identical runs."""

    started: str
    """ISO 8601, UTC."""
    seconds: Norm


class Manifest(Record):
    """Everything that was done to one checkpoint."""

    schema_version: Literal[2] = 2
    tool: Tool
    recipe: Recipe
    recipe_sha256: Sha256
    """Of the recipe with all defaults, as canonical JSON (sorted keys, no white space)."""
    input: Input
    previous: Previous | None
    """Where the input was erased before; that manifest names the one before it."""
    output: Output
    variant: Variant
    tensors: Tensors
    alignment: Alignment
    edits: tuple[EditRecord, ...]
    trained: Trained | None
    """Null for the closed forms."""
    probe: ProbeRecord
    ema: EmaRecord | None
    """Only where the EMA copy is kept."""
    tuning: Tuning | None
    """Null where the settings were given."""
    exceeded: tuple[str, ...]
    """Limits that a dry run found exceeded; nothing is ever written with one."""
    varies_between_runs: VariesBetweenRuns

    manifest_sha256: Sha256 = "0" * 64
    """Of all but this and ``varies_between_runs``, as canonical JSON (sorted keys, no spaces)."""

    _version: Literal[1, 2] = PrivateAttr(2)
    """The schema version that was read, over whose form ``manifest_sha256`` is."""

    @model_validator(mode="wrap")
    @classmethod
    def _version_1_is_read(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(data, dict) or data.get("schema_version") != 1:
            return handler(data)
        manifest = handler(to_version_2(data))
        manifest._version = 1
        return manifest

    @property
    def all_edits(self) -> tuple[Change, ...]:
        """Of the model and of a kept EMA copy."""
        trained = self.trained.changes if self.trained else ()
        return (*self.edits, *trained, *(self.ema.edits if self.ema else ()))

    def to_json(self) -> str:
        """Sorted, indented JSON text with a final newline."""
        return pretty(self.model_dump(mode="json"))

    def digest(self) -> str:
        """What ``manifest_sha256`` has to be."""
        rest = self.model_dump(mode="json", exclude={"manifest_sha256", "varies_between_runs"})
        return json_digest(to_version_1(rest) if self._version == 1 else rest)

    def sealed(self) -> "Manifest":
        """This manifest with its digest."""
        return self.model_copy(update={"manifest_sha256": self.digest()})


@overload
def manifest_path(output: Path, *, folder: bool = False) -> Path: ...
@overload
def manifest_path(output: "UPath", *, folder: bool = False) -> "UPath": ...
def manifest_path(output: Location, *, folder: bool = False) -> Location:
    """Where the manifest lies: beside ``out.safetensors`` as ``out.manifest.json``, or inside."""
    return output / "manifest.json" if folder else beside(output, ".manifest.json")


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


def read_manifest(path: Location) -> Manifest:
    """Read the manifest in a file, of schema version 1 or 2.

    Raises UsageError for a file that is no manifest, StorageError when a store fails; OSError
    passes through.
    """
    try:
        return Manifest.model_validate_json(read_bytes(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(
            f"{redacted(path)}: not a manifest: {where}: {first['msg'].lower()}"
        ) from error


def schema_json() -> str:
    """The JSON Schema of manifests, as shipped in ``manifest.schema.json``."""
    schema = Manifest.model_json_schema(mode="serialization")
    return pretty({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
