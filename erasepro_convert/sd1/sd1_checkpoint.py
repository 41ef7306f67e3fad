"""A checkpoint that has been recognised as SD1.x: its tensors by original name."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from erasepro_convert.checkpoint import Checkpoint, open_checkpoint
from erasepro_convert.errors import CheckpointError, UsageError
from erasepro_convert.runtime.dtypes import is_finite, packed
from erasepro_convert.runtime.printable import prefixing_errors
from erasepro_convert.sd1 import Ema, Layout, identify
from erasepro_convert.sd1.keys import POSITION_IDS, POSITIONS
from erasepro_convert.sd1.spelling import is_text_encoder
from erasepro_convert.sd1.statements import (
    Statements,
    metadata_from_configurations,
    read_statements,
)
from erasepro_convert.storage.location import Location

if TYPE_CHECKING:
    import torch

SHOWN_NAMES = 5
"""The most names that a message lists."""


@dataclass(frozen=True)
class SD1Checkpoint:
    """An open checkpoint and its layout."""

    checkpoint: Checkpoint
    layout: Layout

    def read(self, name: str) -> "torch.Tensor":
        """Read the tensor with an original name, in its stored dtype and its shape in SD1.x.

        Raises CheckpointError for NaN and infinity.
        """
        tensor = self._stored(name)
        if not is_finite(self.checkpoint.tensors[self.layout.source[name]].dtype, packed(tensor)):
            raise CheckpointError(
                f"{self.checkpoint.name}: {self.layout.source[name]} holds NaN or infinite values"
            )
        return tensor

    def rows(self, name: str, numbers: "torch.Tensor") -> "torch.Tensor":
        """Read rows (n × d) of a matrix.  Raises CheckpointError for NaN and infinity."""
        input_name = self.layout.source[name]
        info = self.checkpoint.tensors[input_name]
        rows = self.checkpoint.owner(input_name).rows(info, numbers.tolist())
        if not is_finite(info.dtype, packed(rows)):
            raise CheckpointError(
                f"{self.checkpoint.name}: {input_name} holds NaN or infinite values"
            )
        return rows

    def _stored(self, name: str) -> "torch.Tensor":
        tensor = self.checkpoint.tensor(self.layout.source[name])
        return tensor.reshape(self.layout.shapes[name])

    def with_ema_as_unet(self) -> "SD1Checkpoint":
        """Return this checkpoint with its EMA copy, which must be converted, read as the U-Net."""
        return replace(self, layout=self.layout.with_ema_as_unet())

    @property
    def metadata(self) -> dict[str, str]:
        """Metadata of the files; statements of a folder's configurations take precedence."""
        return {
            **self.checkpoint.metadata,
            **metadata_from_configurations(self.checkpoint.configurations),
        }

    @property
    def statements(self) -> Statements:
        """What the checkpoint says of its training and of its clip skip."""
        return read_statements(self.checkpoint.tensors, self.metadata)

    @property
    def scheduler(self) -> dict[str, object]:
        """Settings that a diffusers scheduler needs for this model beside SD1.x's common ones."""
        statements = self.statements
        settings: dict[str, object] = {}
        if statements.predicts_v:
            settings["prediction_type"] = "v_prediction"
        if statements.zero_snr:
            settings |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        return settings

    def position_ids_defect(self) -> str | None:
        """Say what is wrong with the stored position ids; None where nothing is.

        Merging turns them into floats such as 75.9975, which loaders truncate to 75.
        """
        if POSITION_IDS not in self.layout.source:
            return None
        import torch

        stored = self._stored(POSITION_IDS)
        deviations = (stored.double() - torch.arange(POSITIONS)[None]).abs()
        wrong_count = int((deviations != 0).sum())  # NaN is wrong as well
        if stored.dtype == torch.int64 and not wrong_count:
            return None
        dtype = str(stored.dtype).removeprefix("torch.")
        largest = float(deviations.max())
        return f"stored as {dtype}, {wrong_count} of {POSITIONS} off by up to {largest:.4g}"

    def require_finite(self, progress: Callable[[int, int], None]) -> None:
        """Read every tensor that will be written; raise CheckpointError, naming those not finite.

        Position ids are not checked, since they are written anew.
        """
        damaged = []
        names = [
            input_name for name, input_name in self.layout.source.items() if name != POSITION_IDS
        ]
        chunks = self.checkpoint.prefetching(names)
        for number, input_name in enumerate(names, 1):
            dtype = self.checkpoint.tensors[input_name].dtype
            if not all(is_finite(dtype, chunk) for chunk in chunks(input_name)):
                damaged.append(input_name)
            progress(number, len(names))
        if damaged:
            more = f" and {len(damaged) - SHOWN_NAMES} more" if len(damaged) > SHOWN_NAMES else ""
            raise CheckpointError(
                f"{self.checkpoint.name}: {len(damaged)} of its tensors hold NaN or infinite "
                f"values: {', '.join(damaged[:SHOWN_NAMES])}{more}"
            )


def open_sd1_checkpoint(
    path: Location, ema: Ema = "drop", text_encoder: "Location | None" = None
) -> SD1Checkpoint:
    """Open and recognise ``path``; ``text_encoder`` is the file of a missing text encoder.

    Raises CheckpointError for a file that is not a sound SD1.x checkpoint, and UsageError when it
    has a text encoder already; OSError passes through.
    """
    checkpoint = open_checkpoint(path)
    if text_encoder is not None:
        checkpoint = _with_text_encoder(checkpoint, text_encoder)
    return recognise(checkpoint, ema)


def recognise(checkpoint: Checkpoint, ema: Ema = "drop") -> SD1Checkpoint:
    """Recognise an open checkpoint as SD1.x.

    Raises CheckpointError for what is no sound SD1.x checkpoint.
    """
    with prefixing_errors(checkpoint.name):
        return SD1Checkpoint(checkpoint, identify(checkpoint.tensors, ema))


def _with_text_encoder(checkpoint: Checkpoint, path: Location) -> Checkpoint:
    """Return a checkpoint with the text encoder of the file at ``path``."""
    if any(is_text_encoder(name) for name in checkpoint.tensors):
        raise UsageError(
            f"{checkpoint.name} has a text encoder: --text-encoder is for files without"
        )
    encoder_checkpoint = open_checkpoint(path)
    for prefix in ("", "text_encoder."):  # transformers' own files have no component in front
        for file in encoder_checkpoint.files:
            names = {n for n in file.parsed.tensors if is_text_encoder(prefix + n)}
            if names:
                return checkpoint.joined(file, prefix, only=names)
    raise CheckpointError(f"{encoder_checkpoint.name}: there is no CLIP text encoder in it")
