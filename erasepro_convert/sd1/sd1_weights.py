"""What an erasure asks of a model: its layout, and its tensors by original name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from erasepro_convert.checkpoint.tensor_info import Region, TensorInfo, dense_stride
from erasepro_convert.errors import CheckpointError
from erasepro_convert.runtime.dtypes import dtype_code, is_finite, packed
from erasepro_convert.sd1.identify import Layout, identify

if TYPE_CHECKING:
    import torch


class SD1Weights(Protocol):
    """The tensors of a model that was recognised as SD1.x, wherever they are."""

    @property
    def layout(self) -> Layout:
        """Which variant it is, and which of its tensors is which."""
        ...

    def read(self, name: str) -> "torch.Tensor":
        """Return the tensor with an original name, in its stored dtype and its shape in SD1.x.

        Raises CheckpointError for NaN and infinity.
        """
        ...

    def rows(self, name: str, numbers: "torch.Tensor") -> "torch.Tensor":
        """Return rows (n × d) of a matrix.  Raises CheckpointError for NaN and infinity."""
        ...


@dataclass(frozen=True)
class SD1StateDict:
    """A state dict in memory, on any device, and its layout.  Its tensors are never written to."""

    layout: Layout
    state_dict: "Mapping[str, torch.Tensor]"

    def read(self, name: str) -> "torch.Tensor":
        """Return a tensor on the CPU, as ``SD1Weights.read`` does."""
        return self._checked(name, self._given(name)).reshape(self.layout.shapes[name])

    def rows(self, name: str, numbers: "torch.Tensor") -> "torch.Tensor":
        """Return rows on the CPU, as ``SD1Weights.rows`` does."""
        given = self._given(name)
        return self._checked(name, given[numbers.to(given.device)])

    def _given(self, name: str) -> "torch.Tensor":
        return self.state_dict[self.layout.source[name]].detach()

    def _checked(self, name: str, values: "torch.Tensor") -> "torch.Tensor":
        values = values.cpu()
        if not is_finite(dtype_code(values.dtype), packed(values)):
            raise CheckpointError(f"{self.layout.source[name]} holds NaN or infinite values")
        return values


def recognise_state_dict(state_dict: "Mapping[str, torch.Tensor]") -> SD1StateDict:
    """Recognise tensors in memory as SD1.x; an EMA copy of the U-Net is left aside.

    Raises CheckpointError for what is no sound SD1.x model.
    """
    infos = {name: _info(tensor) for name, tensor in state_dict.items()}
    return SD1StateDict(identify(infos), state_dict)


def _info(tensor: "torch.Tensor") -> TensorInfo:
    """Return a tensor's type and shape; it lies in no file."""
    shape = tuple(tensor.shape)
    return TensorInfo(dtype_code(tensor.dtype), shape, dense_stride(shape), 0, Region(0, 0))
