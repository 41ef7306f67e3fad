"""A checkpoint file that has been recognised as SD1.x: its tensors by original name."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from erasepro_convert.checkpoint import Checkpoint, open_checkpoint
from erasepro_convert.errors import CheckpointError
from erasepro_convert.layout import Layout, identify

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Source:
    """An open checkpoint and what it is."""

    checkpoint: Checkpoint
    layout: Layout

    def read(self, name: str) -> "torch.Tensor":
        """The tensor of an original name, as stored."""
        return self.checkpoint.tensor(self.layout.source[name])


def open_source(path: Path) -> Source:
    """Open and recognise ``path``.

    Raises CheckpointError for a file that is not a sound SD1.x checkpoint; OSError passes through.
    """
    checkpoint = open_checkpoint(path)
    try:
        return Source(checkpoint, identify(checkpoint.tensors))
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint.name}: {error}") from error
