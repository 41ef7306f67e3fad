"""The record of a LoRA that was written beside the output."""

from typing import Annotated

from pydantic import Field

from erasepro_convert.manifest.fields import Count, NonNegative, Record, is_none
from erasepro_convert.manifest.files import OutputFile
from erasepro_convert.manifest.measures import ProbeRecord


class LoraFile(OutputFile):
    """The file of a LoRA, which lies wherever the user asked for it."""

    name: Annotated[str, Field(pattern=r"^[^/\\]+\.safetensors$")]
    """Without folders."""


class LoraLoss(Record):
    """What a LoRA's factors, as stored, lack of the changes that the output has."""

    matrices: Count
    """Changed matrices, each of which has a pair of factors."""
    exact: Count
    """Matrices whose change is met to the rounding of their type: the error is at most half an
    epsilon of the type times the norm of the matrix."""
    rank: Count
    """The largest rank of a pair of factors."""
    worst: NonNegative
    """The largest error of a matrix, as a share of its change (Frobenius norms)."""
    worst_matrix: str
    overall: NonNegative
    """The error of all matrices together, as a share of all changes."""


class LoraRecord(Record):
    """A LoRA with the same changes as the output, for who applies it to the input."""

    file: LoraFile
    loss: LoraLoss
    probe: Annotated[ProbeRecord | None, Field(exclude_if=is_none)] = None
    """The measures of the input with the LoRA, where a change is not met to rounding; else they are
    the output's."""
