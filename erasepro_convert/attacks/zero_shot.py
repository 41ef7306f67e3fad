"""CLIP as a detector: it says which of two texts a picture matches better."""

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image

from erasepro_convert.evaluate.image_store import Pixels
from erasepro_convert.evaluate.judges.clip import STYLE_WORDS, concept_text
from erasepro_convert.evaluate.judges.clip_features import ClipFeatures
from erasepro_convert.evaluate.metrics.kid_fid import Array

BATCH = 32


class ZeroShot:
    """Detects a target where a picture is nearer to the target's text than to the anchor's.

    This is the ACC of an evaluation, picture by picture: Radford et al., *Learning Transferable
    Visual Models From Natural Language Supervision* (2021).
    """

    name = "CLIP (target or anchor)"

    def __init__(self, features: ClipFeatures, anchors: Mapping[str, str]) -> None:
        """Take CLIP's features; ``anchors`` maps each target to its anchor."""
        self._features, self._anchors = features, anchors
        self.digest = features.digest

    def knows(self, concept: str) -> bool:
        """Whether a concept has an anchor to be told from."""
        return concept in self._anchors

    def hits(self, concept: str, pixels: Pixels) -> list[bool]:
        """Say for each picture (n, size, size, 3) whether it is nearer to the target's text."""
        anchor = self._anchors[concept]
        style = bool(STYLE_WORDS & set(anchor.lower().split()))
        texts = [concept_text(words, style=style) for words in (concept, anchor)]
        rows = self._features.text_features(texts)
        cosines = self.features(pixels) @ (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T
        return [bool(hit) for hit in cosines[:, 0] > cosines[:, 1]]

    def features(self, pixels: Pixels) -> Array:
        """Return CLIP's features of pictures (n × d)."""
        parts = []
        for start in range(0, len(pixels), BATCH):
            pictures = [Image.fromarray(picture) for picture in pixels[start : start + BATCH]]
            with torch.inference_mode():
                parts.append(self._features.extract(pictures).double().numpy())
        return np.concatenate(parts)
