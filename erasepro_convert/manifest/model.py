"""The model of a manifest, and the JSON Schema that follows from it."""

from typing import Annotated, Literal

from pydantic import Field

from erasepro_convert.manifest.erasure import Alignment, Change, EditRecord, Synonym, Trained
from erasepro_convert.manifest.fields import NonNegative, Record, Sha256, is_none
from erasepro_convert.manifest.files import Input, Output, Previous, Tensors, Variant
from erasepro_convert.manifest.lora import LoraRecord
from erasepro_convert.manifest.measures import EmaRecord, ProbeRecord
from erasepro_convert.manifest.safetensors_metadata import CONCEPTS
from erasepro_convert.recipe import Recipe
from erasepro_convert.runtime.hashing import json_digest, schema_text


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

    schema_version: Literal[3, 4] = 4
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
    synonyms: dict[str, tuple[Synonym, ...]]
    """What ``synonyms: auto`` found, by target, nearest first.  Words that were no targets before
    stand in the recipe as concepts of their own."""
    alignment: Alignment
    edits: tuple[EditRecord, ...]
    trained: Trained | None
    """Null for the closed forms."""
    probe: ProbeRecord
    ema: EmaRecord | None
    """Only where the EMA copy is kept."""
    lora: Annotated[LoraRecord | None, Field(exclude_if=is_none)] = None
    """Only where one was asked for.  Manifests that are older than this record lack it."""
    exceeded: tuple[str, ...]
    """Limits that a dry run found exceeded; nothing is ever written with one."""
    varies_between_runs: VariesBetweenRuns

    manifest_sha256: Sha256 = "0" * 64
    """The digest of all but this, ``varies_between_runs`` and ``evidence_sha256``, as canonical
    JSON (sorted keys, no white space)."""
    evidence_sha256: Annotated[Sha256 | None, Field(exclude_if=lambda value: value is None)] = None
    """The digest that the evidence made of this release states of itself.  Evidence names the
    manifest by its digest, which therefore cannot cover this."""

    @property
    def all_edits(self) -> tuple[Change, ...]:
        """All changes, of the model and of a kept EMA copy."""
        trained = self.trained.changes if self.trained else ()
        return (*self.edits, *trained, *(self.ema.edits if self.ema else ()))

    @property
    def probes(self) -> tuple[ProbeRecord, ...]:
        """The measures of the model, then those of a kept EMA copy in its place."""
        return (self.probe, *((self.ema.probe,) if self.ema else ()))

    @property
    def is_private(self) -> bool:
        """Whether ``--private`` kept the words of the recipe out of the output's metadata."""
        return CONCEPTS not in self.output.metadata

    def digest(self) -> str:
        """Return the digest that ``manifest_sha256`` has to be."""
        later = {"manifest_sha256", "varies_between_runs", "evidence_sha256"}
        return json_digest(self.model_dump(mode="json", exclude=later))

    def sealed(self) -> "Manifest":
        """Return this manifest with its digest."""
        return self.model_copy(update={"manifest_sha256": self.digest()})


def schema_json() -> str:
    """Return the JSON Schema of manifests, as shipped in ``manifest.schema.json``."""
    return schema_text(Manifest.model_json_schema(mode="serialization"))
