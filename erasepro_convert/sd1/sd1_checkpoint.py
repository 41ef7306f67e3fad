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

SHOWN = 5
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
        old = self.layout.source[name]
        info = self.checkpoint.tensors[old]
        rows = self.checkpoint.owner(old).rows(info, numbers.tolist())
        if not is_finite(info.dtype, packed(rows)):
            raise CheckpointError(f"{self.checkpoint.name}: {old} holds NaN or infinite values")
        return rows

    def _stored(self, name: str) -> "torch.Tensor":
        tensor = self.checkpoint.tensor(self.layout.source[name])
        return tensor.reshape(self.layout.shapes[name])

    def with_ema_as_unet(self) -> "SD1Checkpoint":
        """This checkpoint with its EMA copy read as the U-Net; only where the copy is converted."""
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
        found: dict[str, object] = {}
        if statements.predicts_v:
            found["prediction_type"] = "v_prediction"
        if statements.zero_snr:
            found |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        return found

    def position_ids_defect(self) -> str | None:
        """Say what is wrong with the stored position ids; None where nothing is.

        Merging turns them into floats such as 75.9975, which loaders truncate to 75.
        """
        if POSITION_IDS not in self.layout.source:
            return None
        import torch

        stored = self._stored(POSITION_IDS)
        off = (stored.double() - torch.arange(POSITIONS)[None]).abs()
        wrong = int((off != 0).sum())  # NaN is wrong as well
        if stored.dtype == torch.int64 and not wrong:
            return None
        dtype = str(stored.dtype).removeprefix("torch.")
        return f"stored as {dtype}, {wrong} of {POSITIONS} off by up to {float(off.max()):.4g}"

    def require_finite(self, progress: Callable[[int, int], None]) -> None:
        """Read every tensor that will be written; raise CheckpointError, naming those not finite.

        Position ids are not checked, since they are written anew.
        """
        damaged = []
        names = [old for name, old in self.layout.source.items() if name != POSITION_IDS]
        chunks = self.checkpoint.prefetching(names)
        for number, old in enumerate(names, 1):
            dtype = self.checkpoint.tensors[old].dtype
            if not all(is_finite(dtype, chunk) for chunk in chunks(old)):
                damaged.append(old)
            progress(number, len(names))
        if damaged:
            more = f" and {len(damaged) - SHOWN} more" if len(damaged) > SHOWN else ""
            raise CheckpointError(
                f"{self.checkpoint.name}: {len(damaged)} of its tensors hold NaN or infinite "
                f"values: {', '.join(damaged[:SHOWN])}{more}"
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
    if any(is_text_encoder(name) for name in checkpoint.tensors):
        raise UsageError(
            f"{checkpoint.name} has a text encoder: --text-encoder is for files without"
        )
    given = open_checkpoint(path)
    for prefix in ("", "text_encoder."):  # transformers' own files have no component in front
        for file in given.files:
            names = {n for n in file.parsed.tensors if is_text_encoder(prefix + n)}
            if names:
                return checkpoint.joined(file, prefix, only=names)
    raise CheckpointError(f"{given.name}: there is no CLIP text encoder in it")
