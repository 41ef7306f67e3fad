"""The classifier that judges the demo model's pictures.

It sees the thing, style, attribute, colour and ground in a picture.  It is a small convolutional
network, trained on drawings of the demo's world (tools/demo_model) and never on pictures of the
model that it judges.
"""

import json
from collections.abc import Sequence
from importlib.resources import as_file, files

import torch
from safetensors import safe_open
from torch import Tensor, nn

SIZE = 64
FILE = "judge.safetensors"


class Block(nn.Module):
    """A residual block of two 3×3 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the shape of x."""
        result: Tensor = torch.relu(x + self.body(x))
        return result


def halving(into: int, out: int) -> nn.Sequential:
    """Return layers that halve the size and change the width."""
    return nn.Sequential(
        nn.Conv2d(into, out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()
    )


class Classifier(nn.Module):
    """A classifier with several linear heads on shared features.

    ``heads`` maps the name of a head ("thing", "style", …) to its classes; ``accuracy`` says for
    each head how often it was right on drawings that were not in its training set.
    """

    def __init__(self, heads: dict[str, list[str]]) -> None:
        super().__init__()
        self.heads = heads
        self.accuracy: dict[str, float] = {}
        self.body = nn.Sequential(
            halving(3, 32), halving(32, 64), Block(64), halving(64, 128), Block(128),
            halving(128, 160), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        )  # fmt: skip
        self.last = nn.Linear(4 * 160, sum(map(len, heads.values())))

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return logits (n, classes) of each head, for pictures (n, 3, 64, 64) in 0…1."""
        logits: Tensor = self.last(self.body(pictures * 2 - 1))
        return list(logits.split([len(classes) for classes in self.heads.values()], dim=1))

    @torch.no_grad()
    def classify(self, pictures: Tensor) -> dict[str, list[str]]:
        """Return the likeliest class of each head, for pictures (n, 3, 64, 64) in 0…1.

        Raises ValueError for another shape.
        """
        if pictures.shape[1:] != (3, SIZE, SIZE):
            raise ValueError(f"the judge sees 3×{SIZE}×{SIZE} pictures, not {pictures.shape[1:]}")
        parts = [self(part) for part in pictures.float().split(100)]
        return {
            head: [classes[i] for part in parts for i in part[number].argmax(1).tolist()]
            for number, (head, classes) in enumerate(self.heads.items())
        }

    def hit_rate(self, pictures: Tensor, head: str, expected: Sequence[str]) -> float:
        """Return the share of pictures (n, 3, 64, 64) in which a head sees the expected class."""
        seen = self.classify(pictures)[head]
        return sum(s == e for s, e in zip(seen, expected, strict=True)) / len(seen)


def load_classifier() -> Classifier:
    """Load the shipped classifier."""
    with as_file(files(__package__) / FILE) as path, safe_open(path, "pt") as file:
        metadata = file.metadata()
        classifier = Classifier(json.loads(metadata["heads"]))
        classifier.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    classifier.accuracy = json.loads(metadata["accuracy"])
    return classifier.eval()
