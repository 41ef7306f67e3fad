"""The judge that ships with the demo model: what thing, style or attribute a picture shows."""

import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from erasepro_convert import demo
from erasepro_convert.demo.judge import FILE
from erasepro_convert.evaluate.image_store import Pictures, Pixels
from erasepro_convert.evaluate.judges.features import Features
from erasepro_convert.evaluate.judges.shares import share
from erasepro_convert.evaluate.metrics.kid_fid import Array
from erasepro_convert.evaluate.plan import Role
from erasepro_convert.evaluate.results import Better, Metric, Sets

NOTHING = "none"
"""What the heads of styles and attributes see where there is none."""


class DemoJudge:
    """Shares of pictures in which the demo's classifier sees what it was trained on.

    Concepts outside its world have no figures.
    """

    name = "demo judge"

    def __init__(self) -> None:
        self._judge = demo.load_judge()
        self._seen: dict[tuple[Path, ...], dict[str, list[str]]] = {}
        self.digest = _digest()

    def figures(self, sets: Sets) -> list[Metric]:
        """T: the target is seen; A: the anchor is, in the same pictures; O: what was asked for."""
        found: list[Metric] = []
        for target, anchor in sets.pairs:
            place = self._place(target)
            if place is None:
                continue
            head, seen = place
            of_anchor = self._place(anchor)
            instead = of_anchor[1] if of_anchor and of_anchor[0] == head else NOTHING
            columns: list[tuple[str, Better, Role, str]] = [
                ("T: target seen", "lower", "target", seen),
                ("T: seen where implied", "lower", "implied", seen),
                ("A: anchor seen", "higher", "target", instead),
            ]
            for column, better, role, wanted in columns:
                both = sets("original", target, role), sets("erased", target, role)
                if wanted in self._judge.heads[head]:
                    found += self._share(target, column, better, both, {target: (head, wanted)})
        both = sets("original", None, "other"), sets("erased", None, "other")
        places = {a.concept: self._place(a.concept) for a in (both[0].asked if both[0] else ())}
        known = {concept: place for concept, place in places.items() if place}
        return found + self._share(None, "O: seen as asked", "higher", both, known)

    def knows(self, concept: str) -> bool:
        """Whether a concept is in its world."""
        return self._place(concept) is not None

    def hits(self, concept: str, pixels: Pixels) -> list[bool]:
        """Whether each of pictures (n, 64, 64, 3) shows a concept that it knows."""
        place = self._place(concept)
        assert place is not None
        head, wanted = place
        return [seen == wanted for seen in self._judge.see(_scaled(pixels))[head]]

    def features(self, pixels: Pixels) -> Array:
        """What its heads look at (n × d): alike for pictures that look alike."""
        with torch.inference_mode():
            found: Array = self._judge.body(_scaled(pixels) * 2 - 1).double().numpy()
        return found

    def _share(
        self,
        concept: str | None,
        column: str,
        better: Better,
        both: tuple[Pictures | None, Pictures | None],
        wanted: Mapping[str, tuple[str, str]],
    ) -> list[Metric]:
        """How often what is ``wanted`` of each concept is seen; nothing where there is nothing."""
        original, erased = (side and side.only(wanted) for side in both)
        if not (original and erased and original.paths):
            return []
        hits = [self._hits(side, wanted) for side in (original, erased)]
        return [share(self.name, concept, column, better, original, *hits)]

    def _hits(self, pictures: Pictures, wanted: Mapping[str, tuple[str, str]]) -> list[bool]:
        key = tuple(pictures.paths)
        if key not in self._seen:
            self._seen[key] = self._judge.see(_scaled(pictures.pixels()))
        seen = self._seen[key]
        concepts = [asked.concept for asked in pictures.asked]
        return [seen[wanted[c][0]][i] == wanted[c][1] for i, c in enumerate(concepts)]

    def _place(self, concept: str) -> tuple[str, str] | None:
        """The head that knows a concept, and the class: the longest that is in its words.

        Else what other word for one it is.
        """
        words = f" {concept.lower()} "
        classes = [
            (head, name)
            for head, names in self._judge.heads.items()
            for name in names
            if name != NOTHING and f" {name.lower()} " in words
        ]
        return max(classes, key=lambda place: len(place[1]), default=demo.meaning(concept))


class DemoFeatures(Features):
    """The 640 numbers by which the demo's classifier tells what a picture shows."""

    name = "demo features"

    def __init__(self) -> None:
        super().__init__()
        self._body = demo.load_judge().body
        self.digest = _digest()

    def look(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(n × 640), of RGB pictures."""
        pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
        features: Tensor = self._body(pixels.permute(0, 3, 1, 2) / 127.5 - 1)
        return features


def _digest() -> str:
    return hashlib.sha256((files(demo) / FILE).read_bytes()).hexdigest()


def _scaled(pixels: Pixels) -> Tensor:
    """(n, size, size, 3) bytes as (n, 3, size, size) in 0…1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
