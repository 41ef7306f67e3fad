"""The protocol of detectors, which say for each picture whether a concept is in it."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from erasepro_convert.evaluate.image_store import Pixels
from erasepro_convert.evaluate.metrics.kid_fid import Array


class ConceptDetector(Protocol):
    """A judge that detects concepts in single pictures."""

    name: str
    digest: str
    """The SHA-256 of the detector's weights."""

    def knows(self, concept: str) -> bool:
        """Whether the detector can detect a concept."""

    def hits(self, concept: str, pixels: Pixels) -> list[bool]:
        """Say for each picture (n, size, size, 3) whether it shows a concept that is known."""

    def features(self, pixels: Pixels) -> Array:
        """Return features (n × d) of pictures, which are similar where the pictures are."""


def nearest_group(features: Array, groups: Sequence[Array]) -> list[int]:
    """Return for each row the number of the group that has its nearest neighbour, by cosine."""
    nearest = [(_unit_rows(features) @ _unit_rows(group).T).max(1) for group in groups]
    return [int(i) for i in np.stack(nearest).argmax(0)]


def _unit_rows(rows: Array) -> Array:
    unit: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
