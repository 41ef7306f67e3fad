"""What a training needs to go on where it was interrupted, in a file beside the output."""

import os
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from erasepro_convert.errors import UsageError
from erasepro_convert.storage.location import sibling

EVERY = 60.0
"""Seconds between two times that it is written, at least."""

SHARE = 20
"""As many times longer than the writing itself takes, at least: a large model's takes long."""

BELONGS, LOSSES = "belongs_to", "losses"
PARTS = ("value", "exp_avg", "exp_avg_sq")
"""Of each trained tensor: itself, and Adam's moments of its gradient."""

PICTURES = "pictures"


def state_path(output: Path) -> Path:
    """Where the state of an output's training lies."""
    return sibling(output, ".training.safetensors")


@dataclass
class State:
    """Reads and writes; ``belongs`` is a digest of all that the training depends on."""

    path: Path
    belongs: str
    due: float = 0.0

    def load(
        self, trained: dict[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer
    ) -> tuple[list[float], list[Tensor]]:
        """Put a state in; gives the losses of the steps that were done, and the pictures.

        Both are empty where there is none.  A state of another training is left alone until it is
        replaced.  Raises UsageError for a file that is no state.
        """
        self.due = monotonic() + EVERY
        if not self.path.exists():
            return [], []
        try:
            with safe_open(self.path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata[BELONGS] != self.belongs:
                    return [], []
                losses = [float(loss) for loss in metadata[LOSSES].split()]
                has_pictures = PICTURES in file.keys()  # noqa: SIM118  # it is no mapping
                pictures = [file.get_tensor(PICTURES)] if has_pictures else []
                for name, parameter in trained.items() if losses else ():
                    value, *moments = (file.get_tensor(f"{name}|{part}") for part in PARTS)
                    parameter.data.copy_(value)
                    on_device = (moment.to(parameter.device) for moment in moments)
                    step = torch.tensor(float(len(losses)))
                    optimiser.state[parameter] = dict(
                        zip(("step", *PARTS[1:]), (step, *on_device), strict=True)
                    )
        except (SafetensorError, KeyError, ValueError) as error:
            raise UsageError(f"{self.path}: not the state of a training; delete it") from error
        return losses, pictures

    def is_due(self) -> bool:
        """Whether it is time to write."""
        return monotonic() >= self.due

    def save(
        self,
        trained: dict[str, torch.nn.Parameter],
        optimiser: torch.optim.Optimizer,
        losses: list[float],
        pictures: list[Tensor],
    ) -> None:
        """Write it, whole or not at all."""
        if not losses and not pictures:
            return  # nothing is known yet that a new training would not find
        started = monotonic()
        tensors = {PICTURES: torch.cat(pictures)} if pictures else {}
        for name, parameter in trained.items() if losses else ():
            moments = optimiser.state[parameter]
            values = (parameter.detach(), *(moments[part] for part in PARTS[1:]))
            for part, value in zip(PARTS, values, strict=True):
                tensors[f"{name}|{part}"] = value.cpu().contiguous()
        part_file = self.path.with_name(f".{self.path.name}.part")
        metadata = {BELONGS: self.belongs, LOSSES: " ".join(map(repr, losses))}
        save_file(tensors, part_file, metadata)
        os.replace(part_file, self.path)
        took = monotonic() - started
        self.due = monotonic() + max(EVERY, SHARE * took)
