"""What was read and what was written: files, tensors, and what became of each entry."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from erasepro_convert.checkpoint.tensor_info import Container
from erasepro_convert.manifest.fields import Blake3, Count, Record, Sha256, is_none
from erasepro_convert.runtime.dtypes import DtypeOption
from erasepro_convert.runtime.hashing import Algorithm, files_digest
from erasepro_convert.sd1 import Ema

ClipSkipFrom = Literal["recipe", "metadata", "command line"]

WEIGHTS = ".safetensors"
"""What the names of an output's weight files end in."""


class Stored(Record):
    """What a store says of an object that was read in parts: all there is to know it by."""

    etag: str | None
    version: str | None
    modified: str | None
    checksum: str | None
    """The checksum of the whole object, as the store states it."""


class InputFile(Record):
    """A file that was read."""

    name: str
    """In a folder: with the folders above it."""
    size: Count
    """Bytes."""
    container: Container
    sha256: Sha256 | None
    """Null for an object in a store of which much was not needed and did not travel."""
    autov2: Annotated[str, Field(pattern="^[0-9a-f]{10}$")] | None
    """A1111's and Civitai's short hash: the first 10 digits of the SHA-256."""
    autov3: Sha256 | None
    """SHA-256 of the bytes after a safetensors header; null unless it was asked for."""
    stored: Annotated[Stored | None, Field(exclude_if=is_none)] = None
    """Only where there is no SHA-256."""


class Input(Record):
    """The checkpoint that was read."""

    name: str
    files: tuple[InputFile, ...]
    """One, or those of a diffusers folder, and the file that a missing text encoder came from."""

    def is_named(self, digest: str) -> bool:
        """Whether an evaluation or a stress test that names its original so is about this input.

        True where a part of the input was never read, so that nothing is known of its digest.
        """
        digests = [file.sha256 for file in self.files if file.sha256]
        whole = len(digests) < len(self.files) or digest == files_digest(digests)
        return whole or digest in digests


class Previous(Record):
    """The manifest of the erasure before this one, found beside the input and true of it."""

    name: str
    manifest_sha256: Sha256
    recipe_sha256: Sha256


class OutputFile(Record):
    """A file that was (or, in a dry run, would be) written."""

    name: str
    """In a folder: with the folders above it."""
    size: Count
    sha256: Sha256
    autov2: Annotated[str, Field(pattern="^[0-9a-f]{10}$")]
    autov3: Sha256 | None
    """SHA-256 of the bytes after a safetensors header; null unless it was asked for."""

    @property
    def is_weights(self) -> bool:
        """Whether this is a file of weights and no configuration."""
        return self.name.endswith(WEIGHTS)


class WrittenTensor(Record):
    """A tensor of the output, in its original name and shape."""

    dtype: str
    shape: tuple[Count, ...]
    blake3: Annotated[Blake3 | None, Field(exclude_if=is_none)] = None
    """The digest of name, dtype, shape and values: see docs/audit.md."""
    sha256: Annotated[Sha256 | None, Field(exclude_if=is_none)] = None
    """The same with SHA-256, in manifests of schema 3."""

    @property
    def digest(self) -> str:
        """The one digest that there is."""
        return str(self.blake3 or self.sha256)


class Output(Record):
    """The checkpoint that was written."""

    name: str
    files: tuple[OutputFile, ...]
    metadata: dict[str, str]
    """The metadata of each safetensors file."""
    tensors: dict[str, WrittenTensor]
    tensors_blake3: Annotated[Blake3 | None, Field(exclude_if=is_none)] = None
    """One digest of all tensors, whatever their order, container and spelling."""
    tensors_sha256: Annotated[Sha256 | None, Field(exclude_if=is_none)] = None
    """The same of manifests of schema 3, where tensors have SHA-256."""
    written: bool
    """False for a dry run: the digests are those of the files that a real run writes."""

    @property
    def algorithm(self) -> Algorithm:
        """What the digests of tensors are made with."""
        return "blake3" if self.tensors_blake3 else "sha256"

    @property
    def tensors_digest(self) -> str:
        """The one digest of all tensors."""
        return str(self.tensors_blake3 or self.tensors_sha256)

    @property
    def weights_sha256(self) -> str:
        """One digest of the files of weights, as evaluations and stress tests name a model."""
        return files_digest([file.sha256 for file in self.files if file.is_weights])

    @model_validator(mode="after")
    def _require_one_algorithm(self) -> Self:
        other: Algorithm = "sha256" if self.algorithm == "blake3" else "blake3"
        tensors = self.tensors.values()
        if (
            not getattr(self, f"tensors_{self.algorithm}")
            or getattr(self, f"tensors_{other}")
            or not all(getattr(tensor, self.algorithm) for tensor in tensors)
            or any(getattr(tensor, other) for tensor in tensors)
        ):
            raise ValueError("all digests of tensors must be either BLAKE3 or SHA-256")
        return self


class Variant(Record):
    """Which SD1.x model the input is."""

    name: str
    """ModelSpec architecture."""
    evidence: tuple[str, ...]
    clip_skip_from: ClipSkipFrom
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
    """Tensors that the recipe changed: those of the edits whose ``changed`` is true."""
    dtype: DtypeOption | None
    """What ``--dtype`` asked for; null keeps each tensor's own."""
    dropped: tuple[DroppedEntry, ...]
    renamed: tuple[RenamedTensor, ...]
    repaired: tuple[RepairedTensor, ...]
