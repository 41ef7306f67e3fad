"""Features of Inception v3, from a local TorchScript file."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from erasepro_convert.errors import UsageError
from erasepro_convert.evaluate.judges.features import Features, file_sha256

SIZE = 299


class InceptionFeatures(Features):
    """The 2048 features that clean-fid takes from inception-2015-12-05.pt.

    That file comes with NVIDIA's StyleGAN2-ADA, whose licence is for non-commercial use, and is not
    part of this package.  It is TorchScript, a program: give only a file that you trust.  Any
    other file works, under its own digest, if its ``layers`` compute rows from (n, 3, 299, 299)
    pictures in −1…1.
    """

    name = "Inception"

    def __init__(self, file: Path) -> None:
        """Hash the file; it is loaded when it is first needed.

        Raises UsageError for a file that cannot be read.
        """
        super().__init__()
        self._file = file
        self.digest = file_sha256(file)

    def extract(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return features (n × d) of RGB pictures."""
        resized = torch.from_numpy(np.stack([_resized(picture) for picture in pictures]))
        # The network was trained with 128 as offset and as scale, not with 127.5.
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
    """Resize to (3, 299, 299) in 0…255 as clean-fid does: by Pillow's bicubic filter on floats.

    The filter smooths what it shrinks, and its results go a little beyond 0…255.
    """
    channels = [
        np.asarray(channel.convert("F").resize((SIZE, SIZE), Image.Resampling.BICUBIC))
        for channel in picture.split()
    ]
    return np.stack(channels)
