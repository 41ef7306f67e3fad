"""CLIP as a judge of attacks: which of two texts a picture goes better with."""

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image

from erasepro_convert.evaluate.image_store import Pixels
from erasepro_convert.evaluate.judges.clip import ART, text
from erasepro_convert.evaluate.judges.clip_features import ClipFeatures
from erasepro_convert.evaluate.metrics.kid_fid import Array

BATCH = 32


class ZeroShot:
    """Sees a target where the text for it is nearer than the text for its anchor.

    That is the ACC of an evaluation, picture by picture: Radford et al., *Learning Transferable
    Visual Models From Natural Language Supervision* (2021).  Of an empty anchor nothing is said.
    """

    name = "CLIP (target or anchor)"

    def __init__(self, features: ClipFeatures, anchors: Mapping[str, str]) -> None:
        """``anchors`` by target."""
        self._features, self._anchors = features, anchors
        self.digest = features.digest

    def knows(self, concept: str) -> bool:
        """Whether it has an anchor to tell it from."""
        return concept in self._anchors

    def hits(self, concept: str, pixels: Pixels) -> list[bool]:
        """Whether pictures (n, size, size, 3) are nearer to the target than to its anchor."""
        anchor = self._anchors[concept]
        style = bool(ART & set(anchor.lower().split()))
        texts = [text(words, style=style) for words in (concept, anchor)]
        said = self._features.read(texts)
        near = self.features(pixels) @ (said / np.linalg.norm(said, axis=1, keepdims=True)).T
        return [bool(hit) for hit in near[:, 0] > near[:, 1]]

    def features(self, pixels: Pixels) -> Array:
        """CLIP's features of pictures (n × d)."""
        parts = []
        for start in range(0, len(pixels), BATCH):
            pictures = [Image.fromarray(picture) for picture in pixels[start : start + BATCH]]
            with torch.inference_mode():
                parts.append(self._features.look(pictures).double().numpy())
        return np.concatenate(parts)
