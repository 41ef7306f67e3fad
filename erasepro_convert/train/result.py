"""The result of a training, in a module that needs no library for training."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Fitted:
    """Trained tensors by original name, as they will be stored, and the loss of each step.

    ``device`` is the type of the device that trained them: cpu, cuda or mps.
    """

    weights: dict[str, Tensor]
    losses: tuple[float, ...]
    device: str
