"""Features of Inception v3, from a local TorchScript file."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from erasepro_convert.errors import UsageError
from erasepro_convert.evaluate.judges.features import Features, sha256

SIZE = 299


class InceptionFeatures(Features):
    """The 2048 features that clean-fid takes, of inception-2015-12-05.pt.

    That file comes with NVIDIA's StyleGAN2-ADA, whose licence is for non-commercial use; nothing of
    it ships with us.  It is TorchScript, a program: give only one that you trust.  Any other
    whose ``layers`` make rows of (n, 3, 299, 299) pictures in −1…1 will do, under its own digest.
    """

    name = "Inception"

    def __init__(self, file: Path) -> None:
        """Look at what is there; it is loaded when it is needed.

        Raises UsageError for a file that cannot be read.
        """
        super().__init__()
        self._file = file
        self.digest = sha256(file)

    def look(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(n × d), of RGB pictures."""
        resized = torch.from_numpy(np.stack([_resized(picture) for picture in pictures]))
        # 128 for white and black alike is what the network was trained with
        try:
            rows: Tensor = self._layers((resized - 128) / 128)
        except RuntimeError as error:
            raise UsageError(f"{self._file}: it makes no features of pictures") from error
        return rows.reshape(len(pictures), -1)

    @cached_property
    def _layers(self) -> torch.nn.Module:
        try:
            return torch.jit.load(self._file, map_location="cpu").eval().layers  # type: ignore[no-any-return]
        except (RuntimeError, AttributeError, ValueError) as error:
            raise UsageError(
                f"{self._file}: not the TorchScript file inception-2015-12-05.pt"
            ) from error


def _resized(picture: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """(3, 299, 299) in 0…255, as clean-fid resizes: Pillow's bicubic filter on floats.

    It smooths what it makes smaller, and goes a little beyond 0…255.
    """
    channels = [
        np.asarray(channel.convert("F").resize((SIZE, SIZE), Image.Resampling.BICUBIC))
        for channel in picture.split()
    ]
    return np.stack(channels)
