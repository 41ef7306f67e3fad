"""What a conversion writes: weight files with their headers, and files that hold no weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from erasepro_convert.checkpoint.safetensors_file import LENGTH, require_readable_header
from erasepro_convert.errors import CheckpointError
from erasepro_convert.manifest.safetensors_metadata import EMBEDDED
from erasepro_convert.output.safetensors_writer import OutputTensor, WeightFile
from erasepro_convert.runtime.printable import printable


@dataclass(frozen=True)
class WritePlan:
    """Files to write, by their paths in the output folder, or by the name of a single file.

    ``name`` is the output's.  ``configurations`` are the contents of files that hold no weights.
    All weight files have the same ``metadata``.  ``left_out`` are tensors that the kind of output
    has no place for, and why.
    """

    name: str
    weights: Mapping[str, WeightFile]
    configurations: Mapping[str, bytes]
    metadata: Mapping[str, str]
    left_out: Mapping[str, str]


def plan_files(
    name: str,
    tensors: Mapping[str, Sequence[OutputTensor]],
    configurations: Mapping[str, bytes],
    metadata: Mapping[str, str],
    left_out: Mapping[str, str],
) -> WritePlan:
    """Plan the files; ``tensors`` gives the tensors of each weight file.

    Raises CheckpointError, before anything is written, where no loader would read the header of a
    weight file.
    """
    weights = {path: WeightFile(parts, metadata) for path, parts in tensors.items()}
    for file in weights.values():
        try:
            require_readable_header(file.header[LENGTH:])
        except CheckpointError as error:
            raise CheckpointError(
                f"{name} cannot be written: {error}; {_advice(metadata)}"
            ) from error
    return WritePlan(name, weights, configurations, metadata, left_out)


def _advice(metadata: Mapping[str, str]) -> str:
    """Return what to do about metadata that do not fit into a header."""
    largest = max(metadata.keys() - {EMBEDDED}, key=lambda key: len(metadata[key].encode()))
    size = len(metadata[largest].encode())
    other = "leave out --embed-manifest, or " if EMBEDDED in metadata else ""
    return f"{other}take {printable(largest)} ({size} bytes) out of the input's metadata"
