"""Features of pictures by a network, from which distances and CLIP scores are computed."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from erasepro_convert.errors import UsageError
from erasepro_convert.evaluate.image_store import load_image
from erasepro_convert.evaluate.metrics.kid_fid import Array

BATCH = 32


class Features(ABC):
    """A network that computes features of pictures, and remembers those of each file.

    It runs on the CPU, where a picture gets the same features everywhere, up to rounding.
    """

    name: str
    digest: str
    """The SHA-256 of the network's weights."""

    def __init__(self) -> None:
        self._known: dict[Path, Array] = {}

    def compute(self, paths: Sequence[Path]) -> Array:
        """Return features (n × d) in the order of the paths.

        Raises UsageError for a file that is no picture, and for weights that cannot be used.
        """
        missing = [path for path in dict.fromkeys(paths) if path not in self._known]
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            with torch.inference_mode():
                rows = self.extract([load_image(path) for path in part])
            self._known.update(zip(part, rows.double().numpy(), strict=True))
        return np.stack([self._known[path] for path in paths])

    @abstractmethod
    def extract(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return features (n × d) of RGB pictures."""


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file.  Raises UsageError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
