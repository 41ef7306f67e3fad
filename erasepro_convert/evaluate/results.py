"""What judges give: figures of both models with their intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, Protocol

from erasepro_convert.evaluate.image_store import Model, Pictures
from erasepro_convert.evaluate.metrics.intervals import Interval
from erasepro_convert.evaluate.plan import Role

Better = Literal["higher", "lower"]
ARROWS: dict[Better, str] = {"higher": "↑", "lower": "↓"}

Scores = Mapping[str, Sequence[float]]
"""A number for each picture of a prompt."""


@dataclass(frozen=True)
class Estimate:
    """A figure and where it lies in 95 of 100 samples of prompts and seeds."""

    value: float
    interval: Interval | None = None


@dataclass(frozen=True)
class Metric:
    """A line of the table.

    ``concept`` is None where it is about all; ``worst`` is the erased model's worst prompt.
    ``difference`` is erased − original, over the same prompts and seeds.
    """

    judge: str
    concept: str | None
    column: str
    better: Better
    original: Estimate | None
    erased: Estimate
    difference: Estimate | None
    images: int
    prompts: int
    worst: str | None = None
    worst_value: float | None = None
    scores: Mapping[Model, Scores] | None = field(default=None, repr=False)
    """What it is made of, for methods to be compared picture by picture; distances have none."""

    def to_data(self) -> dict[str, object]:
        """For JSON: all but the scores."""
        return {name: value for name, value in asdict(self).items() if name != "scores"}


class Sets(Protocol):
    """The pictures of an evaluation."""

    def __call__(self, model: Model, concept: str | None, role: Role) -> Pictures | None:
        """Those of a concept's prompts (None: of the others'); None where there are none."""

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Targets with their anchors."""


class Judge(Protocol):
    """Looks at pictures."""

    name: str
    digest: str
    """SHA-256 of its weights."""

    def figures(self, sets: Sets) -> list[Metric]:
        """What it finds."""
