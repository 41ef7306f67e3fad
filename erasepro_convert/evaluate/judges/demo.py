"""The judge that ships with the demo model: it sees things, styles and attributes in pictures."""

import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from erasepro_convert import demo
from erasepro_convert.demo.classifier import FILE
from erasepro_convert.evaluate.image_store import Pictures, Pixels
from erasepro_convert.evaluate.judges.features import Features
from erasepro_convert.evaluate.judges.share_metric import share_metric
from erasepro_convert.evaluate.metrics.kid_fid import Array
from erasepro_convert.evaluate.plan import Role
from erasepro_convert.evaluate.results import Better, Metric, PictureSets

NOTHING = "none"
"""The class of the heads for styles and attributes that means: there is none."""


class DemoJudge:
    """Computes the share of pictures in which the demo's classifier sees a concept.

    Concepts that the classifier was not trained on get no metrics.
    """

    name = "demo judge"

    def __init__(self) -> None:
        self._classifier = demo.load_classifier()
        self._seen: dict[tuple[Path, ...], dict[str, list[str]]] = {}
        self.digest = _digest()

    def metrics(self, sets: PictureSets) -> list[Metric]:
        """Compute T, A and O: how often the target, the anchor and what was asked for are seen.

        T and A look at the same pictures, those of the target's prompts; O looks at those of the
        other prompts.
        """
        found: list[Metric] = []
        for target, anchor in sets.pairs:
            target_class = self._find_class(target)
            if target_class is None:
                continue
            head, seen = target_class
            anchor_class = self._find_class(anchor)
            instead = anchor_class[1] if anchor_class and anchor_class[0] == head else NOTHING
            columns: list[tuple[str, Better, Role, str]] = [
                ("T: target seen", "lower", "target", seen),
                ("T: seen where implied", "lower", "implied", seen),
                ("A: anchor seen", "higher", "target", instead),
            ]
            for column, better, role, expected in columns:
                both = sets("original", target, role), sets("erased", target, role)
                if expected in self._classifier.heads[head]:
                    found += self._share(target, column, better, both, {target: (head, expected)})
        both = sets("original", None, "other"), sets("erased", None, "other")
        prompts = both[0].prompts if both[0] else ()
        classes = {p.concept: self._find_class(p.concept) for p in prompts}
        known = {concept: found_class for concept, found_class in classes.items() if found_class}
        return found + self._share(None, "O: seen as asked", "higher", both, known)

    def knows(self, concept: str) -> bool:
        """Whether the classifier was trained on a concept."""
        return self._find_class(concept) is not None

    def hits(self, concept: str, pixels: Pixels) -> list[bool]:
        """Say for each picture (n, 64, 64, 3) whether it shows a concept that the judge knows."""
        found_class = self._find_class(concept)
        assert found_class is not None
        head, expected = found_class
        return [seen == expected for seen in self._classifier.classify(_scaled(pixels))[head]]

    def features(self, pixels: Pixels) -> Array:
        """Return the features (n × d) that the classifier's heads read from pictures."""
        with torch.inference_mode():
            found: Array = self._classifier.body(_scaled(pixels) * 2 - 1).double().numpy()
        return found

    def _share(
        self,
        concept: str | None,
        column: str,
        better: Better,
        both: tuple[Pictures | None, Pictures | None],
        expected: Mapping[str, tuple[str, str]],
    ) -> list[Metric]:
        """Return the metric of how often each concept's ``expected`` head and class are seen.

        The list is empty where there are no pictures of these concepts.
        """
        original, erased = (side and side.of_concepts(expected) for side in both)
        if not (original and erased and original.paths):
            return []
        hits = [self._hits(side, expected) for side in (original, erased)]
        return [share_metric(self.name, concept, column, better, original, *hits)]

    def _hits(self, pictures: Pictures, expected: Mapping[str, tuple[str, str]]) -> list[bool]:
        key = tuple(pictures.paths)
        if key not in self._seen:
            self._seen[key] = self._classifier.classify(_scaled(pictures.pixels()))
        seen = self._seen[key]
        pairs = [expected[prompt.concept] for prompt in pictures.prompts]
        return [seen[head][i] == name for i, (head, name) in enumerate(pairs)]

    def _find_class(self, concept: str) -> tuple[str, str] | None:
        """Find the head and the class that a concept means.

        It is the class with the longest name among the concept's words, else the class for which
        the concept is another word.
        """
        words = f" {concept.lower()} "
        classes = [
            (head, name)
            for head, names in self._classifier.heads.items()
            for name in names
            if name != NOTHING and f" {name.lower()} " in words
        ]
        return max(classes, key=lambda found: len(found[1]), default=demo.find_class(concept))


class DemoFeatures(Features):
    """The 640 features by which the demo's classifier tells what a picture shows."""

    name = "demo features"

    def __init__(self) -> None:
        super().__init__()
        self._body = demo.load_classifier().body
        self.digest = _digest()

    def extract(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return features (n × 640) of RGB pictures."""
        pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
        features: Tensor = self._body(pixels.permute(0, 3, 1, 2) / 127.5 - 1)
        return features


def _digest() -> str:
    return hashlib.sha256((files(demo) / FILE).read_bytes()).hexdigest()


def _scaled(pixels: Pixels) -> Tensor:
    """Turn bytes (n, size, size, 3) into floats (n, 3, size, size) in 0…1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
