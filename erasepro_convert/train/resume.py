"""The file beside the output from which an interrupted training goes on."""

import os
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from erasepro_convert.errors import UsageError
from erasepro_convert.manifest.names_beside import TRAINING
from erasepro_convert.storage.location import sibling

EVERY = 60.0
"""The least number of seconds between two writings."""

SHARE = 20
"""The least time between two writings, in multiples of what one takes: a large model's is long."""

BELONGS, LOSSES = "belongs_to", "losses"
PARTS = ("value", "exp_avg", "exp_avg_sq")
"""What is kept of each trained tensor: itself, and Adam's moments of its gradient."""

ANCHOR_LATENTS = "pictures"
"""The name of AC's anchor latents in the file."""


def state_path(output: Path) -> Path:
    """Return where the state of an output's training lies."""
    return sibling(output, TRAINING)


@dataclass
class TrainingState:
    """Reads and writes the file; ``identity`` is a digest of all that the training depends on.

    ``due`` is when it is to be written next, by the monotonic clock.
    """

    path: Path
    identity: str
    due: float = 0.0

    def load(
        self, trained: dict[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer
    ) -> tuple[list[float], list[Tensor]]:
        """Restore tensors and optimiser; gives the losses of finished steps, and anchor latents.

        Both are empty where there is no file, or the file of another training, which stays until it
        is replaced.  Raises UsageError for a file that a training did not write.
        """
        self.due = monotonic() + EVERY
        if not self.path.exists():
            return [], []
        try:
            with safe_open(self.path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata[BELONGS] != self.identity:
                    return [], []
                losses = [float(loss) for loss in metadata[LOSSES].split()]
                has_anchors = ANCHOR_LATENTS in file.keys()  # noqa: SIM118  # it is no mapping
                anchor_latents = [file.get_tensor(ANCHOR_LATENTS)] if has_anchors else []
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
        return losses, anchor_latents

    def is_due(self) -> bool:
        """Whether it is time to write the file."""
        return monotonic() >= self.due

    def save(
        self,
        trained: dict[str, torch.nn.Parameter],
        optimiser: torch.optim.Optimizer,
        losses: list[float],
        anchor_latents: list[Tensor],
    ) -> None:
        """Write the file, whole or not at all; nothing where a training has nothing yet."""
        if not losses and not anchor_latents:
            return
        started = monotonic()
        tensors = {ANCHOR_LATENTS: torch.cat(anchor_latents)} if anchor_latents else {}
        for name, parameter in trained.items() if losses else ():
            moments = optimiser.state[parameter]
            values = (parameter.detach(), *(moments[part] for part in PARTS[1:]))
            for part, value in zip(PARTS, values, strict=True):
                tensors[f"{name}|{part}"] = value.cpu().contiguous()
        part_file = self.path.with_name(f".{self.path.name}.part")
        metadata = {BELONGS: self.identity, LOSSES: " ".join(map(repr, losses))}
        save_file(tensors, part_file, metadata)
        os.replace(part_file, self.path)
        took = monotonic() - started
        self.due = monotonic() + max(EVERY, SHARE * took)
