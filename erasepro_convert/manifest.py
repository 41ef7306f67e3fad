"""The manifest: the record of one conversion, and (by these models) its JSON Schema.

Two identical runs give the same manifest but for ``varies_between_runs``.  Norms are Frobenius
norms, computed in float64 from the weights as stored in the output.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from erasepro_convert.checkpoint.tensors import Container
from erasepro_convert.digest import of_json
from erasepro_convert.dtypes import Option
from erasepro_convert.errors import UsageError
from erasepro_convert.layout import Ema
from erasepro_convert.recipe import Recipe
from erasepro_convert.recipe.model import Tokens

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Norm = Annotated[float, Field(ge=0)]
Encoder = Literal["edited", "stock"]


class Record(BaseModel):
    """A frozen piece of the manifest; JSON has no NaN or infinity, so neither has this."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Tool(Record):
    """What made the output."""

    name: Literal["erasepro-convert"] = "erasepro-convert"
    version: str
    libraries: dict[str, str]
    """Versions that the output's bytes depend on."""


class InputFile(Record):
    """A file that was read."""

    name: str
    """In a folder: with the folders above it."""
    size: Count
    """Bytes."""
    container: Container
    sha256: Sha256
    autov2: Annotated[str, Field(pattern="^[0-9a-f]{10}$")]
    """A1111's and Civitai's short hash: the first 10 digits of the SHA-256."""
    autov3: Sha256 | None
    """SHA-256 of the bytes after a safetensors header; null for other containers."""


class Input(Record):
    """The checkpoint that was read."""

    name: str
    files: tuple[InputFile, ...]
    """One, or those of a diffusers folder, and the file that a missing text encoder came from."""


class OutputFile(Record):
    """A file that was (or, in a dry run, would be) written."""

    name: str
    """In a folder: with the folders above it."""
    size: Count
    sha256: Sha256
    autov2: Annotated[str, Field(pattern="^[0-9a-f]{10}$")]
    autov3: Sha256 | None
    """SHA-256 of the bytes after a safetensors header; null for a configuration."""


class WrittenTensor(Record):
    """A tensor of the output, in its original name and shape."""

    dtype: str
    shape: tuple[Count, ...]
    sha256: Sha256
    """Of name, dtype, shape and values: see docs/audit.md."""


class Output(Record):
    """The checkpoint that was written."""

    name: str
    files: tuple[OutputFile, ...]
    metadata: dict[str, str]
    """Of each safetensors file."""
    tensors: dict[str, WrittenTensor]
    tensors_sha256: Sha256
    """Over all tensors, whatever their order, container and spelling."""
    written: bool
    """False for a dry run: the digests are those of the files that a real run writes."""


class Variant(Record):
    """Which SD1.x model the input is."""

    name: str
    """ModelSpec architecture."""
    evidence: tuple[str, ...]
    clip_skip_from: Literal["recipe", "metadata", "command line"]
    """What says how the U-Net is fed; the recipe as run has it as ``clip_skip``."""
    ema: Ema | None
    """What became of an EMA copy of the U-Net; null where there is none."""


class DroppedEntry(Record):
    """Something in the input that is not in the output."""

    name: str
    reason: str


class RenamedTensor(Record):
    """A tensor written under its current name."""

    input_name: str
    output_name: str


class RepairedTensor(Record):
    """A tensor that was damaged and is written as it should be."""

    name: str
    defect: str


class Tensors(Record):
    """What became of the input's entries."""

    written: Count
    edited: Count
    dtype: Option | None
    """What ``--dtype`` asked for; null keeps each tensor's own."""
    dropped: tuple[DroppedEntry, ...]
    renamed: tuple[RenamedTensor, ...]
    repaired: tuple[RepairedTensor, ...]


class PromptPair(Record):
    """One target prompt and the anchor prompt that it is made to mean."""

    target: str
    anchor: str
    target_tokens: Count
    """Tokens that are not padding, BOS and EOS included."""
    anchor_tokens: Count
    pairing: Literal["word", "position"]
    anchor_positions: tuple[Count, ...]
    """For position 0, 1, 2, … of the target prompt: the position in the anchor prompt."""


class AnchorPlace(Record):
    """One anchor feature: a token of a prompt."""

    prompt: str
    position: Count
    token: str


class Conflict(Record):
    """One target feature that the recipe sends to several anchor features at once."""

    target_prompt: str
    position: Count
    token: str
    anchors: tuple[AnchorPlace, ...]


class ColumnSet(Record):
    """The columns of X and Y in some layers."""

    columns: Count
    """Distinct pairs of a target feature and an anchor feature."""
    merged: Count
    """Pairs left out because the same pair is there already (a shared beginning of prompts)."""
    conflicts: tuple[Conflict, ...]


class Alignment(Record):
    """Which target features are sent to which anchor features.

    Layer 1 of the text encoder is apart: before any attention a token and its position are all
    that a feature knows, so more columns are equal there.
    """

    prompts: tuple[PromptPair, ...]
    retained: tuple[str, ...]
    """Prompts whose features weigh the update."""
    left_out: tuple[str, ...]
    """Retained prompts of the recipe that contain a target's words."""
    first_layer: ColumnSet
    deeper_layers: ColumnSet


class Residual(Record):
    """‖WX − W_oY‖, absolute and relative to ‖W_oY‖."""

    absolute: Norm
    relative: Norm


class Apart(Record):
    """How far target features X are from anchor features Y."""

    distance: Norm
    """‖X − Y‖ / ‖Y‖."""
    angle: Norm
    """Mean over columns, in degrees."""


class EditRecord(Record):
    """One edited matrix."""

    layer: str
    name: str
    """Of the tensor."""
    shape: tuple[Count, Count]
    dtype: str
    """As stored, in safetensors' code."""
    norm: Norm
    """‖W_o‖."""
    update_norm: Norm
    """‖W* − W_o‖."""
    relative_update: Norm
    """‖W* − W_o‖ / ‖W_o‖."""
    residual_before: Residual
    residual_after: Residual
    """Of the stored weight."""
    columns: Count
    """Columns of X."""
    rank: Count
    """Singular values of X above the cut-off."""
    condition: Norm
    """Largest over smallest singular value of X above the cut-off."""
    merged: Count
    """Columns of X left out as duplicates."""
    conflicts: Count
    """Columns of X that are sent to several anchor features."""
    apart: Apart
    """X and Y where the layer reads them, with all earlier edits (Fig. 3a)."""
    apart_without: Apart
    """The same without any edit."""
    alone: dict[Encoder, Norm] | None
    """‖W* − W_o‖ of an edit that holds for one text encoder alone; only the cross-attention's.
    "stock" is the burden without progression, "edited" what is left of it (Fig. 2d)."""


class Feed(Record):
    """One way of feeding the U-Net."""

    text_encoder: Encoder
    clip_skip: Count


class PromptMeasure(Record):
    """A measure over held-out prompts with one feed."""

    feed: Feed
    concept: str | None
    """The target; null where prompts of no concept are measured."""
    prompts: Count
    mean: Norm
    worst: Norm
    worst_prompt: str
    by_prompt: dict[str, Norm]
    distance_before: Norm | None
    """‖KV(target) − KV_original(anchor)‖ / ‖KV_original(anchor)‖ in the original, mean over
    prompts: what leak counts as 1.  Null for drift."""
    distance_after: Norm | None
    """The same with this feed."""


class ProbeRecord(Record):
    """What held-out prompts say of the result, on text features alone.

    leak is ‖KV_edited(target) − KV_original(anchor)‖ / ‖KV_original(target) − KV_original(anchor)‖:
    1 before erasure, 0 where the target has become the anchor.  drift is
    ‖KV_edited − KV_original‖ / ‖KV_original‖ of other prompts: 0 before.  Both are means over the
    cross-attention's matrices, over positions 1 … EOS.
    """

    leak: tuple[PromptMeasure, ...]
    drift: tuple[PromptMeasure, ...]


class EmaRecord(Record):
    """The EMA copy of the U-Net, edited like the U-Net itself and measured in its place."""

    edits: tuple[EditRecord, ...]
    """Named by the tensors of the copy."""
    probe: ProbeRecord


class Try(Record):
    """One setting that tuning tried, and the largest measures that it came to."""

    tolerance: Norm
    retain_weight: Norm
    templates: Count
    """The most prompts of any concept."""
    tokens: Tokens
    leak: Norm | None = None
    drift: Norm | None = None
    relative_update: Norm | None = None
    within: bool = False
    """Within the recipe's limits on drift and update."""
    refused: str | None = None
    """Why there are no measures."""


class Tuning(Record):
    """The search that chose the recipe's settings."""

    recipe_sha256: Sha256
    """Of the recipe as asked; the manifest's own is the recipe as run."""
    tries: tuple[Try, ...]
    chosen: Count
    """The number of the try that was taken, counted from 0."""


class Previous(Record):
    """The manifest of the erasure before this one, found beside the input and true of it."""

    name: str
    manifest_sha256: Sha256
    recipe_sha256: Sha256


class VariesBetweenRuns(Record):
    """The only part that differs between two identical runs."""

    started: str
    """ISO 8601, UTC."""
    seconds: Norm


class Manifest(Record):
    """Everything that was done to one checkpoint."""

    schema_version: Literal[1] = 1
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

    def to_json(self) -> str:
        """Sorted, indented JSON text with a final newline."""
        return _pretty(self.model_dump(mode="json"))

    def digest(self) -> str:
        """What ``manifest_sha256`` has to be."""
        rest = self.model_dump(mode="json", exclude={"manifest_sha256", "varies_between_runs"})
        return of_json(rest)

    def sealed(self) -> "Manifest":
        """The same with its digest."""
        return self.model_copy(update={"manifest_sha256": self.digest()})


def manifest_path(output: Path, *, folder: bool = False) -> Path:
    """Where the manifest lies: beside ``out.safetensors`` as ``out.manifest.json``, or inside."""
    return output / "manifest.json" if folder else output.with_suffix(".manifest.json")


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file.

    Raises UsageError for a file that is none; OSError passes through.
    """
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(f"{path}: not a manifest: {where}: {first['msg'].lower()}") from error


def schema_json() -> str:
    """The JSON Schema of manifests, as shipped in ``manifest.schema.json``."""
    schema = Manifest.model_json_schema(mode="serialization")
    return _pretty({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def _pretty(data: object) -> str:
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("manifest.schema.json").write_text(schema_json(), encoding="utf-8")
