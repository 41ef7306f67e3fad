"""What a judge must be able to do here: say of each picture whether something is in it."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from erasepro_convert.evaluate.image_store import Pixels
from erasepro_convert.evaluate.metrics.kid_fid import Array


class Sight(Protocol):
    """A judge that sees."""

    name: str
    digest: str
    """SHA-256 of its weights."""

    def knows(self, concept: str) -> bool:
        """Whether it could tell."""

    def hits(self, concept: str, pixels: Pixels) -> list[bool]:
        """Whether each of pictures (n, size, size, 3) shows a concept that it knows."""

    def features(self, pixels: Pixels) -> Array:
        """What pictures are to it (n × d): alike where they look alike."""


def most_like(features: Array, groups: Sequence[Array]) -> list[int]:
    """The number of the group that has the nearest neighbour of each row, by the cosine."""
    nearest = [(_unit(features) @ _unit(group).T).max(1) for group in groups]
    return [int(i) for i in np.stack(nearest).argmax(0)]


def _unit(rows: Array) -> Array:
    unit: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
