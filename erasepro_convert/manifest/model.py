"""The model of a manifest, and the JSON Schema that follows from it."""

from typing import Any, Literal, Self

from pydantic import ModelWrapValidatorHandler, PrivateAttr, model_validator

from erasepro_convert.manifest.erasure import Alignment, Change, EditRecord, Trained
from erasepro_convert.manifest.fields import NonNegative, Record, Sha256
from erasepro_convert.manifest.files import Input, Output, Previous, Tensors, Variant
from erasepro_convert.manifest.measures import EmaRecord, ProbeRecord, Tuning
from erasepro_convert.manifest.version_1 import to_version_1, to_version_2
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.hashing import json_digest, pretty_json


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
    seconds: NonNegative


class Manifest(Record):
    """Everything that was done to one checkpoint."""

    schema_version: Literal[2] = 2
    tool: Tool
    recipe: Recipe
    recipe_sha256: Sha256
    """The digest of the recipe with all defaults, as canonical JSON (sorted keys, no spaces)."""
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
    """The digest of all but this and ``varies_between_runs``, as canonical JSON (sorted keys, no
    white space)."""

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
        """All changes, of the model and of a kept EMA copy."""
        trained = self.trained.changes if self.trained else ()
        return (*self.edits, *trained, *(self.ema.edits if self.ema else ()))

    def to_json(self) -> str:
        """Return sorted, indented JSON text with a final newline."""
        return pretty_json(self.model_dump(mode="json"))

    def digest(self) -> str:
        """Return the digest that ``manifest_sha256`` has to be."""
        rest = self.model_dump(mode="json", exclude={"manifest_sha256", "varies_between_runs"})
        return json_digest(to_version_1(rest) if self._version == 1 else rest)

    def sealed(self) -> "Manifest":
        """Return this manifest in the current schema version, with its digest."""
        manifest = self.model_copy()
        manifest._version = 2
        return manifest.model_copy(update={"manifest_sha256": manifest.digest()})


def schema_json() -> str:
    """Return the JSON Schema of manifests, as shipped in ``manifest.schema.json``."""
    schema = Manifest.model_json_schema(mode="serialization")
    return pretty_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
